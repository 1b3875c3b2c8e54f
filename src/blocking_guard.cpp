// SPDX-License-Identifier: BSL-1.0
// Functions of libc, in front of the real ones. Only objects that refer to the guard are linked
// with this, and then the whole program calls these.
#include <tidegate/testing/blocking_guard.hpp>

#include <tidegate/detail/activity.hpp>
#include <tidegate/stall_detector.hpp>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <mutex>
#include <stdexcept>
#include <utility>

#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

TIDEGATE_BEGIN_NAMESPACE
namespace testing {

struct blocking_guard_state {
    std::function<void(blocking_call const&)> on_call;
    std::mutex mutable mutex;
    std::vector<blocking_call> calls;

    void note(char const* function);
};

namespace {

constexpr std::size_t most_calls = 1000;

std::mutex installing;
std::atomic<blocking_guard_state*> current{nullptr};
thread_local int allowed = 0; // also while a call is being told of

bool is_inside_a_handler() noexcept {
    if (!current.load(std::memory_order_relaxed) || allowed > 0) return false;
    auto const* const slot = detail::this_thread_activity;
    return slot && (slot->sequence.load(std::memory_order_relaxed) & 1) != 0;
}

// Before a call that may block.
void tell(char const* function) noexcept {
    int const saved = errno;
    ++allowed;
    {
        std::lock_guard lock(installing);
        if (auto* const guard = current.load()) guard->note(function);
    }
    --allowed;
    errno = saved;
}

bool blocks(int descriptor) noexcept {
    int const flags = ::fcntl(descriptor, F_GETFL);
    return flags >= 0 && (flags & O_NONBLOCK) == 0;
}

template <class Function>
Function* real(Function*, char const* name) noexcept {
    return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

} // namespace

void blocking_guard_state::note(char const* function) {
    void* addresses[64];
    int const n = ::backtrace(addresses, 64);
    constexpr int ours = 3; // this, tell(), and the function
    blocking_call call{function, {}};
    if (n > ours) {
        call.stack = detail::name_functions(std::vector<void*>(addresses + ours, addresses + n));
    }
    std::lock_guard lock(mutex);
    if (on_call) on_call(call);
    if (calls.size() < most_calls) calls.push_back(std::move(call));
}

std::string to_string(blocking_call const& call) {
    std::string text = call.function + " inside a handler";
    for (auto const& function : call.stack) text += "\n    " + function;
    return text;
}

blocking_guard::blocking_guard(std::function<void(blocking_call const&)> on_call)
    : state_(std::make_unique<blocking_guard_state>()) {
    state_->on_call = std::move(on_call);
    void* warm[4];
    ::backtrace(warm, 4); // loads the unwinder
    std::lock_guard lock(installing);
    if (current.load()) throw std::logic_error("tidegate: there is a blocking_guard already");
    current = state_.get();
}

blocking_guard::~blocking_guard() {
    std::lock_guard lock(installing);
    current = nullptr;
}

std::vector<blocking_call> blocking_guard::calls() const {
    std::lock_guard lock(state_->mutex);
    return state_->calls;
}

allow_blocking::allow_blocking(char const*) noexcept { ++allowed; }
allow_blocking::~allow_blocking() { --allowed; }

} // namespace testing
TIDEGATE_END_NAMESPACE

// In front of libc -------------------------------------------------------------------------------

// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming)
using tidegate::testing::blocks;
using tidegate::testing::is_inside_a_handler;
using tidegate::testing::real;
using tidegate::testing::tell;

// The real function of that name, told of first where `blocking` holds.
#define TIDEGATE_FORWARD(name, blocking, ...)                                                      \
    static auto* const next = real(&::name, #name);                                                \
    if (is_inside_a_handler() && (blocking)) tell(#name);                                          \
    return next(__VA_ARGS__)

extern "C" {

unsigned sleep(unsigned seconds) { TIDEGATE_FORWARD(sleep, true, seconds); }
int usleep(useconds_t time) { TIDEGATE_FORWARD(usleep, true, time); }
int nanosleep(timespec const* time, timespec* left) {
    TIDEGATE_FORWARD(nanosleep, true, time, left);
}
int clock_nanosleep(clockid_t clock, int flags, timespec const* time, timespec* left) {
    TIDEGATE_FORWARD(clock_nanosleep, true, clock, flags, time, left);
}

int poll(pollfd* all, nfds_t n, int time) { TIDEGATE_FORWARD(poll, time != 0, all, n, time); }
int select(int n, fd_set* read, fd_set* write, fd_set* except, timeval* time) {
    TIDEGATE_FORWARD(select, !time || time->tv_sec || time->tv_usec, n, read, write, except, time);
}

ssize_t read(int file, void* to, size_t size) {
    TIDEGATE_FORWARD(read, blocks(file), file, to, size);
}
ssize_t write(int file, void const* from, size_t size) {
    TIDEGATE_FORWARD(write, blocks(file), file, from, size);
}
ssize_t readv(int file, iovec const* to, int n) {
    TIDEGATE_FORWARD(readv, blocks(file), file, to, n);
}
ssize_t writev(int file, iovec const* from, int n) {
    TIDEGATE_FORWARD(writev, blocks(file), file, from, n);
}
ssize_t recv(int socket, void* to, size_t size, int flags) {
    TIDEGATE_FORWARD(recv, !(flags & MSG_DONTWAIT) && blocks(socket), socket, to, size, flags);
}
ssize_t send(int socket, void const* from, size_t size, int flags) {
    TIDEGATE_FORWARD(send, !(flags & MSG_DONTWAIT) && blocks(socket), socket, from, size, flags);
}
ssize_t recvmsg(int socket, msghdr* to, int flags) {
    TIDEGATE_FORWARD(recvmsg, !(flags & MSG_DONTWAIT) && blocks(socket), socket, to, flags);
}
ssize_t sendmsg(int socket, msghdr const* from, int flags) {
    TIDEGATE_FORWARD(sendmsg, !(flags & MSG_DONTWAIT) && blocks(socket), socket, from, flags);
}
int connect(int socket, sockaddr const* to, socklen_t size) {
    TIDEGATE_FORWARD(connect, blocks(socket), socket, to, size);
}
int accept(int socket, sockaddr* from, socklen_t* size) {
    TIDEGATE_FORWARD(accept, blocks(socket), socket, from, size);
}
int accept4(int socket, sockaddr* from, socklen_t* size, int flags) {
    TIDEGATE_FORWARD(accept4, blocks(socket), socket, from, size, flags);
}
int getaddrinfo(char const* host, char const* service, addrinfo const* hints, addrinfo** found) {
    TIDEGATE_FORWARD(getaddrinfo, true, host, service, hints, found);
}

int fsync(int file) { TIDEGATE_FORWARD(fsync, true, file); }
int fdatasync(int file) { TIDEGATE_FORWARD(fdatasync, true, file); }
int flock(int file, int what) { TIDEGATE_FORWARD(flock, !(what & LOCK_NB), file, what); }

int system(char const* command) { TIDEGATE_FORWARD(system, true, command); }
pid_t waitpid(pid_t child, int* status, int options) {
    TIDEGATE_FORWARD(waitpid, !(options & WNOHANG), child, status, options);
}

int pthread_join(pthread_t thread, void** result) {
    TIDEGATE_FORWARD(pthread_join, true, thread, result);
}
int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
    // One that is free is taken by looking.
    if (is_inside_a_handler() && pthread_mutex_trylock(mutex) == 0) return 0;
    TIDEGATE_FORWARD(pthread_mutex_lock, true, mutex);
}
int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex) {
    TIDEGATE_FORWARD(pthread_cond_wait, true, condition, mutex);
}
int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex,
                           timespec const* until) {
    TIDEGATE_FORWARD(pthread_cond_timedwait, true, condition, mutex, until);
}
int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                           timespec const* until) {
    TIDEGATE_FORWARD(pthread_cond_clockwait, true, condition, mutex, clock, until);
}
int sem_wait(sem_t* semaphore) { TIDEGATE_FORWARD(sem_wait, true, semaphore); }
int sem_timedwait(sem_t* semaphore, timespec const* until) {
    TIDEGATE_FORWARD(sem_timedwait, true, semaphore, until);
}

long syscall(long number, ...) noexcept {
    std::va_list all;
    va_start(all, number);
    long a[6];
    for (long& one : a) one = va_arg(all, long);
    va_end(all);
    constexpr long command = ~static_cast<long>(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
    bool const waits = number == SYS_futex &&
                       ((a[1] & command) == FUTEX_WAIT || (a[1] & command) == FUTEX_WAIT_BITSET);
    TIDEGATE_FORWARD(syscall, waits, number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
}
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)
