"""The vocabulary: msgspec Structs exactly as they go over the wire. It must hold no logic and know no other room."""
