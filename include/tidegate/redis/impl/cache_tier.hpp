// SPDX-License-Identifier: BSL-1.0
// One connection that reads, writes and listens.
#pragma once

#include <tidegate/detail/serial_executor.hpp>
#include <tidegate/redis/cache_tier.hpp>
#include <tidegate/redis/detail/exec.hpp>
#include <tidegate/redis/keep_connected.hpp>
#include <tidegate/sleep.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/redis/connection.hpp>
#include <boost/system/system_error.hpp>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <mutex>
#include <string_view>

TIDEGATE_BEGIN_NAMESPACE
namespace redis {
namespace detail {

/// Who this client is to Redis: `id` alone is given anew when Redis starts again.
struct client_name {
    std::string id;
    std::string address;

    /// Of the answer to CLIENT INFO; empty if there is none.
    static client_name of(std::string_view info) {
        auto const field = [&](std::string_view name) {
            auto const at = info.find(name);
            if (at == std::string_view::npos) return std::string();
            auto const begin = at + name.size();
            return std::string(info.substr(begin, info.find_first_of(" \n", begin) - begin));
        };
        client_name name{field("id="), field(" addr=")};
        if (name.address.empty()) name.id.clear();
        return name;
    }
};

class cache_tier_state : public std::enable_shared_from_this<cache_tier_state> {
public:
    using self_type = std::shared_ptr<cache_tier_state>;
    using found_values = std::vector<std::optional<tier_value>>;
    template <class T>
    using awaitable = boost::asio::awaitable<T>;

    cache_tier_state(boost::asio::any_io_executor const& executor, boost::redis::config&& server,
                     cache_tier_options&& settings)
        : settings_(std::move(settings)),
          server_(std::move(server)),
          executor_(tidegate::detail::serial_executors(executor).next()),
          connection_(std::make_shared<boost::redis::connection>(executor_)) {
        server_.reconnect_wait_interval = std::chrono::seconds(0);
        connection_->set_receive_response(pushed_);
    }

    // Connecting --------------------------------------------------------------------------------

    static awaitable<void> run(self_type self) {
        auto running =
            boost::asio::co_spawn(self->executor_, run_here(self), boost::asio::deferred);
        co_await std::move(running);
    }

    void close() noexcept {
        closed_ = true;
        boost::asio::post(executor_,
                          [self = this->shared_from_this()] { self->connection_->cancel(); });
    }

    // Reading and writing -----------------------------------------------------------------------

    static awaitable<found_values> get_many(self_type self, std::vector<std::string> keys) {
        self->need_connection();
        auto const sent = std::make_shared<call>();
        for (std::string const& key : keys) {
            std::string const name = self->settings_.prefix() + key;
            sent->request.push("PTTL", name);
            // One byte more than allowed tells that there is more.
            sent->request.push("GETRANGE", name, 0, self->settings_.max_value_bytes());
        }
        if (keys.empty()) co_return found_values();
        auto asking =
            exec_until(self->connection_, sent, std::chrono::steady_clock::time_point::max());
        error_code const ec = co_await std::move(asking);
        if (ec) throw boost::system::system_error(ec);
        co_return self->read(sent->answer, keys.size());
    }

    static awaitable<void> put_many(self_type self, std::vector<tier_entry> entries) {
        auto const sent = std::make_shared<call>();
        for (auto const& [key, value] : entries) self->push_entry(sent->request, key, value);
        return change(self, sent);
    }

    static awaitable<void> invalidate(self_type self, std::vector<std::string> keys) {
        auto const sent = std::make_shared<call>();
        for (std::string& key : keys) key.insert(0, self->settings_.prefix());
        sent->request.push_range("UNLINK", keys);
        return change(self, sent);
    }

    // Telling -----------------------------------------------------------------------------------

    void add_listener(std::weak_ptr<tier_listener>&& who) {
        std::lock_guard lock(mutex_);
        std::erase_if(listeners_, [](auto const& one) { return one.expired(); });
        listeners_.push_back(std::move(who));
    }

    cache_tier_statistics statistics() const noexcept {
        cache_tier_statistics all;
        all.connected = connected_;
        all.connections = connections_;
        all.lost = lost_;
        all.failed_to_start = failed_to_start_;
        all.changes = changes_;
        all.flushes = flushes_;
        all.too_large = too_large_;
        return all;
    }

private:
    using counter = std::atomic<std::uint64_t>;
    using nodes = std::vector<reply_node>;
    static constexpr std::int64_t kept_longer_ms = 1000;

    // Connecting; on the executor ---------------------------------------------------------------

    static awaitable<void> run_here(self_type self) {
        co_await boost::asio::this_coro::throw_if_cancelled(false);
        self->over_ = false;
        self->listen();
        while (!self->closed_) {
            self->ask_for_pushes();
            auto running = run_once(self->connection_, self->server_);
            co_await std::move(running);
            self->note_loss();
            auto const state = co_await boost::asio::this_coro::cancellation_state;
            if (self->closed_ || state.cancelled() != boost::asio::cancellation_type::none) break;
            auto waiting =
                sleep_for(std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                    self->settings_.reconnect_pause()));
            auto const stopped = co_await caught(std::move(waiting));
            if (stopped) break;
        }
        self->over_ = true;
        self->connection_->cancel();
    }

    static awaitable<bool> caught(awaitable<void> waiting) {
        try {
            co_await std::move(waiting);
        } catch (boost::system::system_error const&) {
            co_return true;
        }
        co_return false;
    }

    // Waits in the line of requests for the connection to be made, before everything else.
    void ask_for_pushes() {
        auto const sent = std::make_shared<call>();
        sent->request.get_config().cancel_if_not_connected = false;
        bool const kills = !name_.id.empty();
        if (kills) sent->request.push("CLIENT", "KILL", "ID", name_.id, "ADDR", name_.address);
        std::vector<std::string> words{"TRACKING", "ON", "BCAST", "NOLOOP"};
        if (!settings_.prefix().empty()) {
            words.emplace_back("PREFIX");
            words.push_back(settings_.prefix());
        }
        sent->request.push_range("CLIENT", words);
        sent->request.push("CLIENT", "INFO");
        auto& request = sent->request;
        boost::redis::any_adapter adapter(sent->answer);
        connection_->async_exec(request, std::move(adapter),
                                [self = this->shared_from_this(), sent, kills,
                                 turn = turn_](error_code ec, std::size_t) {
                                    if (turn == self->turn_)
                                        self->take_setup(ec, sent->answer.nodes, kills ? 1 : 0);
                                });
    }

    void take_setup(error_code ec, nodes const& said, std::size_t first) {
        if (ec) return;
        if (said.size() != first + 2 || said[first].is_error()) {
            connection_->cancel(boost::redis::operation::run);
            return;
        }
        name_ = client_name::of(said[first + 1].value);
        ++connections_;
        tell_all();
        connected_ = true;
    }

    void note_loss() {
        ++turn_;
        pushed_.nodes.clear();
        if (!connected_.exchange(false)) {
            ++failed_to_start_;
            return;
        }
        ++lost_;
        tell_all();
    }

    // Listening ---------------------------------------------------------------------------------

    void listen() {
        connection_->async_receive([self = this->shared_from_this()](error_code, std::size_t) {
            self->take_pushes();
            if (!self->over_) self->listen();
        });
    }

    // Of what came last, a part may still be missing.
    void take_pushes() {
        nodes& all = pushed_.nodes;
        std::size_t first = 0;
        while (first < all.size()) {
            std::size_t const end = message_end(all, first);
            if (end == 0) break;
            take_push(all, first, end);
            first = end;
        }
        all.erase(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(first));
    }

    // "invalidate" and a list of keys, or null for all of them.
    void take_push(nodes const& all, std::size_t first, std::size_t end) {
        using boost::redis::resp3::type;
        if (all[first].type != type::push || end < first + 3) return;
        if (all[first + 1].value != "invalidate") return;
        if (all[first + 2].type == type::null) return tell_all();
        for (std::size_t i = first + 3; i < end; ++i) {
            std::string_view const name = all[i].value;
            if (!name.starts_with(settings_.prefix())) continue;
            ++changes_;
            tell(name.substr(settings_.prefix().size()));
        }
    }

    void tell(std::string_view key) {
        for (auto const& listener : living()) listener->on_changed(key);
    }
    void tell_all() {
        ++flushes_;
        for (auto const& listener : living()) listener->on_all_changed();
    }
    std::vector<std::shared_ptr<tier_listener>> living() const {
        std::vector<std::shared_ptr<tier_listener>> all;
        std::lock_guard lock(mutex_);
        for (auto const& one : listeners_) {
            if (auto living = one.lock()) all.push_back(std::move(living));
        }
        return all;
    }

    // Reading and writing -----------------------------------------------------------------------

    void need_connection() const {
        if (!connected_) throw boost::system::system_error(boost::redis::error::not_connected);
    }

    found_values read(replies const& from, std::size_t count) {
        if (from.nodes.size() != 2 * count)
            throw boost::system::system_error(boost::redis::error::incompatible_size);
        found_values found(count);
        for (std::size_t i = 0; i < count; ++i) {
            reply_node const& time = from.nodes[2 * i];
            reply_node const& bytes = from.nodes[2 * i + 1];
            if (time.is_error() || bytes.is_error()) continue; // another type: not ours
            std::int64_t left = 0;
            std::from_chars(time.value.data(), time.value.data() + time.value.size(), left);
            if (left != -1 && left <= kept_longer_ms) continue; // -1: for ever, -2: not there
            if (bytes.value.size() > settings_.max_value_bytes()) {
                ++too_large_;
                continue;
            }
            found[i] = tier_value{bytes.value,
                                  left == -1 ? tier_value::for_ever
                                             : std::chrono::milliseconds(left - kept_longer_ms)};
        }
        return found;
    }

    void push_entry(boost::redis::request& to, std::string const& key, tier_value const& value) {
        std::string const name = settings_.prefix() + key;
        auto const ms =
            std::chrono::duration_cast<std::chrono::milliseconds>(value.time_to_live).count();
        bool const is_too_large = value.bytes.size() > settings_.max_value_bytes();
        if (is_too_large) ++too_large_;
        if (is_too_large || ms <= 0) to.push("UNLINK", name);
        else if (value.time_to_live == tier_value::for_ever) to.push("SET", name, value.bytes);
        else to.push("SET", name, value.bytes, "PX", ms + kept_longer_ms);
    }

    // Whoever cancels has to wait: see `cache_tier` of the library.
    static awaitable<void> change(self_type self, std::shared_ptr<call> sent) {
        self->need_connection();
        if (sent->request.get_commands() == 0) co_return;
        auto asking = exec_to_the_end(self->connection_, sent);
        error_code const ec = co_await std::move(asking);
        if (ec) throw boost::system::system_error(ec);
        for (auto const& node : sent->answer.nodes) {
            if (node.is_error())
                throw boost::system::system_error(boost::redis::error::resp3_simple_error,
                                                  node.value);
        }
    }

    cache_tier_options const settings_;
    boost::redis::config server_;
    boost::asio::any_io_executor const executor_; // one thing at a time
    connection_pointer const connection_;
    std::atomic<bool> closed_{false};
    std::atomic<bool> connected_{false};

    // Used on the executor only.
    bool over_ = false;
    std::uint64_t turn_ = 0; // counts connections, and attempts at one
    client_name name_;       // of the last one
    replies pushed_;

    std::mutex mutable mutex_;
    std::vector<std::weak_ptr<tier_listener>> listeners_;
    counter connections_{0};
    counter lost_{0};
    counter failed_to_start_{0};
    counter changes_{0};
    counter flushes_{0};
    counter too_large_{0};
};

} // namespace detail

inline cache_tier::cache_tier(boost::asio::any_io_executor const& executor,
                              boost::redis::config server, options settings)
    : state_(std::make_shared<detail::cache_tier_state>(executor, std::move(server),
                                                        std::move(settings))) {}

inline cache_tier::~cache_tier() { state_->close(); }

inline auto cache_tier::run() -> awaitable<void> { return detail::cache_tier_state::run(state_); }

inline auto cache_tier::get_many(std::vector<std::string> keys)
    -> awaitable<std::vector<std::optional<tier_value>>> {
    return detail::cache_tier_state::get_many(state_, std::move(keys));
}

inline auto cache_tier::put_many(std::vector<tier_entry> entries) -> awaitable<void> {
    return detail::cache_tier_state::put_many(state_, std::move(entries));
}

inline auto cache_tier::invalidate(std::vector<std::string> keys) -> awaitable<void> {
    return detail::cache_tier_state::invalidate(state_, std::move(keys));
}

inline void cache_tier::add_listener(std::weak_ptr<tier_listener> who) {
    state_->add_listener(std::move(who));
}

inline cache_tier_statistics cache_tier::statistics() const noexcept {
    return state_->statistics();
}

} // namespace redis
TIDEGATE_END_NAMESPACE
