// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <tidegate/detail/thread_probe.hpp>

#include <algorithm>
#include <stdexcept>
#include <utility>

#if defined(__linux__)
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <cxxabi.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <memory>
#include <mutex>
#include <sys/syscall.h>
#include <unistd.h>
#endif

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

#if defined(__linux__)

// Up to the first line break.
inline std::string read_task_file(activity_slot const& slot, char const* name) {
    char path[64];
    std::snprintf(path, sizeof(path), "/proc/self/task/%ld/%s", slot.id, name);
    int const file = ::open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return {};
    char bytes[256];
    ::ssize_t const got = ::read(file, bytes, sizeof(bytes));
    ::close(file);
    std::string text(bytes, got > 0 ? static_cast<std::size_t>(got) : 0);
    return text.substr(0, text.find('\n'));
}

TIDEGATE_DECL thread_times read_thread_times(activity_slot const& slot) noexcept {
    thread_times times;
    ::clockid_t clock;
    ::timespec now{};
    if (::pthread_getcpuclockid(slot.thread, &clock) == 0 && ::clock_gettime(clock, &now) == 0)
        times.computing = std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
    try {
        // Time run, time waited to run, turns.
        std::string const text = read_task_file(slot, "schedstat");
        if (auto const at = text.find(' '); at != text.npos) {
            std::int64_t waited = 0;
            std::from_chars(text.data() + at + 1, text.data() + text.size(), waited);
            times.waiting_to_run = std::chrono::nanoseconds(waited);
        }
    } catch (std::bad_alloc const&) { // not known, then
        times.waiting_to_run = {};
    }
    return times;
}

struct known_system_call {
    long number;
    char const* name;
    bool restarts; // after a signal, as if nothing had been (signal(7))
};

inline known_system_call const* find_system_call(long number) noexcept {
    static constexpr known_system_call all[] = {
        {SYS_read, "read", true},
        {SYS_write, "write", true},
        {SYS_readv, "readv", true},
        {SYS_writev, "writev", true},
        {SYS_pread64, "pread64", true},
        {SYS_pwrite64, "pwrite64", true},
        {SYS_openat, "openat", true},
        {SYS_close, "close", true},
        {SYS_fsync, "fsync", true},
        {SYS_fdatasync, "fdatasync", true},
        {SYS_flock, "flock", true},
        {SYS_futex, "futex", true},
        {SYS_wait4, "wait4", true},
        {SYS_waitid, "waitid", true},
        {SYS_connect, "connect", true},
        {SYS_accept, "accept", true},
        {SYS_accept4, "accept4", true},
        {SYS_recvfrom, "recvfrom", true},
        {SYS_recvmsg, "recvmsg", true},
        {SYS_sendto, "sendto", true},
        {SYS_sendmsg, "sendmsg", true},
        {SYS_getrandom, "getrandom", true},
        {SYS_renameat, "renameat", true},
        {SYS_unlinkat, "unlinkat", true},
        {SYS_newfstatat, "newfstatat", true},
        {SYS_nanosleep, "nanosleep", false},
        {SYS_clock_nanosleep, "clock_nanosleep", false},
        {SYS_ppoll, "ppoll", false},
        {SYS_pselect6, "pselect6", false},
        {SYS_epoll_pwait, "epoll_pwait", false},
#if defined(SYS_poll)
        {SYS_poll, "poll", false},
        {SYS_select, "select", false},
        {SYS_epoll_wait, "epoll_wait", false},
        {SYS_open, "open", true},
#endif
    };
    for (auto const& one : all) {
        if (one.number == number) return &one;
    }
    return nullptr;
}

TIDEGATE_DECL system_call_state read_system_call(activity_slot const& slot) {
    // "running", or the number, six arguments, and two registers.
    std::string const text = read_task_file(slot, "syscall");
    long number = -1;
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || number < 0) return {};
    auto const* const known = find_system_call(number);
    system_call_state state;
    state.may_be_interrupted = known && known->restarts;
    state.text = known ? known->name : "system call " + std::to_string(number);
    char before = '(';
    std::size_t at = static_cast<std::size_t>(end - text.data());
    for (int i = 0; i < 3 && at != text.npos && at < text.size(); ++i) {
        std::size_t const next = text.find(' ', at + 1);
        state.text += before + std::string(i ? " " : "") + text.substr(at + 1, next - at - 1);
        before = ',';
        at = next;
    }
    state.text += before == ',' ? ")" : "()";
    return state;
}

TIDEGATE_DECL std::string read_wait_channel(activity_slot const& slot) {
    std::string text = read_task_file(slot, "wchan");
    return text == "0" ? std::string() : text;
}

TIDEGATE_DECL std::string read_thread_name(activity_slot const& slot) {
    return read_task_file(slot, "comm");
}

// Stacks ----------------------------------------------------------------------------------------

/// Between the detector and the signal handler of the thread that is asked.
struct stack_request {
    static stack_request& only() noexcept {
        static stack_request one;
        return one;
    }

    std::mutex one_at_a_time;
    // The thread's id; less than 0: it answers; 0: nobody, or it has answered.
    std::atomic<long> asked{0};
    void* frames[64];
    std::atomic<int> count{0};
};

// On the watched thread. What it calls has been called before, so it loads and allocates nothing.
inline void answer_with_stack(int) noexcept {
    int const saved = errno;
    auto& request = stack_request::only();
    long const me = ::syscall(SYS_gettid);
    long asked = me;
    if (request.asked.compare_exchange_strong(asked, -me, std::memory_order_acquire)) {
        // Unwinding twice at a time crashes.
        int const n = std::uncaught_exceptions() > 0 ? 0 : ::backtrace(request.frames, 64);
        request.count.store(n, std::memory_order_relaxed);
        request.asked.store(0, std::memory_order_release);
    }
    errno = saved;
}

TIDEGATE_DECL void prepare_stacks(int signal) {
    void* warm[4];
    ::backtrace(warm, 4); // loads the unwinder
    stack_request::only();
    struct ::sigaction action{};
    action.sa_handler = &answer_with_stack;
    action.sa_flags = SA_RESTART | SA_ONSTACK;
    ::sigemptyset(&action.sa_mask);
    if (::sigaction(signal, &action, nullptr) != 0)
        throw std::invalid_argument("tidegate: stall_detector stack_signal " +
                                    std::to_string(signal) + " cannot be caught");
}

TIDEGATE_DECL std::vector<void*> take_stack(activity_slot const& slot, int signal) {
    auto& request = stack_request::only();
    std::lock_guard lock(request.one_at_a_time);
    request.asked.store(slot.id, std::memory_order_release);
    if (::pthread_kill(slot.thread, signal) != 0) return {};
    auto const deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
    while (request.asked.load(std::memory_order_acquire) != 0) {
        // It has the signal blocked, or no processor. While it answers nobody else can be asked.
        long asked = slot.id;
        if (std::chrono::steady_clock::now() >= deadline &&
            request.asked.compare_exchange_strong(asked, 0)) {
            return {};
        }
        ::timespec const pause{0, 50'000};
        ::nanosleep(&pause, nullptr);
    }
    int const n = request.count.load(std::memory_order_relaxed);
    int const ours = std::min(n, 2); // the handler, and what the system calls it by
    return std::vector<void*>(request.frames + ours, request.frames + n);
}

TIDEGATE_DECL std::vector<std::string> name_functions(std::vector<void*> const& addresses) {
    std::vector<std::string> all;
    for (void* const address : addresses) {
        ::Dl_info where{};
        if (::dladdr(address, &where) == 0) {
            all.push_back("?");
            continue;
        }
        if (where.dli_sname) {
            int status = 0;
            std::unique_ptr<char, void (*)(void*)> const readable(
                abi::__cxa_demangle(where.dli_sname, nullptr, nullptr, &status), &std::free);
            all.push_back(status == 0 ? readable.get() : where.dli_sname);
        } else {
            // For addr2line: the functions of a program are known with -rdynamic only.
            char text[512];
            auto const offset = static_cast<char*>(address) - static_cast<char*>(where.dli_fbase);
            std::snprintf(text, sizeof(text), "%s+0x%zx", where.dli_fname,
                          static_cast<std::size_t>(offset));
            all.push_back(text);
        }
    }
    return all;
}

#else

TIDEGATE_DECL thread_times read_thread_times(activity_slot const&) noexcept { return {}; }
TIDEGATE_DECL system_call_state read_system_call(activity_slot const&) { return {}; }
TIDEGATE_DECL std::string read_wait_channel(activity_slot const&) { return {}; }
TIDEGATE_DECL std::string read_thread_name(activity_slot const&) { return {}; }
TIDEGATE_DECL void prepare_stacks(int) {
    throw std::invalid_argument("tidegate: stall_detector stack_signal works on Linux only");
}
TIDEGATE_DECL std::vector<void*> take_stack(activity_slot const&, int) { return {}; }
TIDEGATE_DECL std::vector<std::string> name_functions(std::vector<void*> const&) { return {}; }

#endif

} // namespace detail
TIDEGATE_END_NAMESPACE
