/* Makes the interface of the raw network inside a sandbox's network namespace, with the rights of the user namespace that
 * owns it. Only a child process goes in there; what comes back are the descriptors.
 */
#define _GNU_SOURCE
#include "init.h"
#include "raw.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/nsfs.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME "raw0"

struct message {
    struct nlmsghdr head;
    char body[256];
};

static void add_attribute(struct message *m, unsigned short type, const void *data, size_t len) {
    struct rtattr *a = (struct rtattr *)((char *)m + NLMSG_ALIGN(m->head.nlmsg_len));
    a->rta_type = type;
    a->rta_len = (unsigned short)RTA_LENGTH(len);
    memcpy(RTA_DATA(a), data, len);
    m->head.nlmsg_len = NLMSG_ALIGN(m->head.nlmsg_len) + RTA_ALIGN(a->rta_len);
}

/* Begin a message of that type, and return where its fixed part stands. */
static void *begin(struct message *m, unsigned short type, unsigned short flags, size_t fixed) {
    memset(m, 0, sizeof *m);
    m->head.nlmsg_len = (uint32_t)NLMSG_LENGTH(fixed);
    m->head.nlmsg_type = type;
    m->head.nlmsg_flags = (unsigned short)(NLM_F_REQUEST | NLM_F_ACK | flags);
    return NLMSG_DATA(&m->head);
}

static void ask(int fd, struct message *m, const char *what) {
    struct {
        struct nlmsghdr head;
        struct nlmsgerr error;
        char rest[1024];
    } answer;
    if (send(fd, m, m->head.nlmsg_len, 0) < 0 || recv(fd, &answer, sizeof answer, 0) < (ssize_t)sizeof answer.head)
        launch_fail("cannot ask for", what);
    errno = answer.head.nlmsg_type == NLMSG_ERROR ? -answer.error.error : EPROTO;
    if (errno) launch_fail("cannot set", what);
}

static void configure(void) {
    struct message m;
    uint32_t mtu = RAW_MTU, address = htonl(RAW_AGENT), index = if_nametoindex(NAME);
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0 || !index) launch_fail("cannot configure", NAME);

    struct ifaddrmsg *inside = begin(&m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, sizeof *inside);
    *inside = (struct ifaddrmsg){.ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_index = index};
    add_attribute(&m, IFA_LOCAL, &address, 4);
    add_attribute(&m, IFA_ADDRESS, &address, 4);
    ask(fd, &m, "the address inside");

    struct ifinfomsg *link = begin(&m, RTM_NEWLINK, 0, sizeof *link);
    *link = (struct ifinfomsg){.ifi_index = (int)index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    add_attribute(&m, IFLA_MTU, &mtu, 4);
    ask(fd, &m, "the interface up");

    struct rtmsg *route = begin(&m, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, sizeof *route);
    *route = (struct rtmsg){.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC,
                            .rtm_scope = RT_SCOPE_LINK, .rtm_type = RTN_UNICAST};
    add_attribute(&m, RTA_OIF, &index, 4);
    ask(fd, &m, "the route");
    close(fd);
}

static int listener(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(RAW_LISTEN), .sin_addr.s_addr = htonl(RAW_AGENT)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 128) < 0)
        launch_fail("cannot listen", "inside");
    return fd;
}

static void enter(int space, int kind, const char *what) {
    if (setns(space, kind) < 0) launch_fail("cannot enter", what);
}

/* In the child. /dev/net/tun binds to the network it is opened in; it is often for root alone, so root opens it, and gives
 * up root before it does anything else. */
static int make(int net, unsigned uid, unsigned gid) {
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int owner = ioctl(net, NS_GET_USERNS), tun;
    if (owner < 0) launch_fail("cannot find the owner of", "the sandbox's network");
    if (!uid) enter(owner, CLONE_NEWUSER, "the sandbox's user namespace");
    enter(net, CLONE_NEWNET, "the sandbox's network");
    tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (tun < 0) launch_fail("cannot open", "/dev/net/tun");
    if (uid) {
        launch_drop(uid, gid);
        enter(owner, CLONE_NEWUSER, "the sandbox's user namespace");
    }
    strcpy(request.ifr_name, NAME);
    if (ioctl(tun, TUNSETIFF, &request) < 0) launch_fail("cannot make", NAME);
    configure();
    return tun;
}

static void pass(int over, int fd) {
    char control[CMSG_SPACE(sizeof fd)] = {0}, byte = 0;
    struct iovec io = {&byte, 1};
    struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    if (sendmsg(over, &message, MSG_NOSIGNAL) < 0) launch_fail("cannot hand over", NAME);
}

static int take(int over) {
    char control[CMSG_SPACE(sizeof(int))] = {0}, byte;
    struct iovec io = {&byte, 1};
    struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c;
    int fd;
    if (recvmsg(over, &message, MSG_CMSG_CLOEXEC) < 1 || !(c = CMSG_FIRSTHDR(&message)) || c->cmsg_type != SCM_RIGHTS)
        _exit(71); /* the child has said why */
    memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

void raw_interface(pid_t pid, int pidfd, unsigned uid, unsigned gid, int *tun, int *listening) {
    char path[64];
    int pair[2], status;
    struct pollfd ended = {pidfd, POLLIN, 0};
    snprintf(path, sizeof path, "/proc/%d/ns/net", (int)pid);
    int net = open(path, O_RDONLY | O_CLOEXEC);
    /* The process is still there, so the path was its own, and not a later one's of the same number. */
    if (net < 0 || poll(&ended, 1, 0) != 0) launch_fail("cannot find the network of", "the sandbox");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) launch_fail("cannot make", "a socket");
    pid_t child = fork();
    if (child < 0) launch_fail("cannot start", "a process");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(pair[0]);
        pass(pair[1], make(net, uid, gid));
        pass(pair[1], listener());
        _exit(0);
    }
    close(pair[1]);
    *tun = take(pair[0]);
    *listening = take(pair[0]);
    close(pair[0]);
    close(net);
    waitpid(child, &status, 0);
}
