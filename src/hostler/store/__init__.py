"""The floor of durable data: tables, transactions, and the port to whoever schedules sessions."""
