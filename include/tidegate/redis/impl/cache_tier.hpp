// SPDX-License-Identifier: BSL-1.0
// One connection that reads, writes and listens.
#pragma once

#include <tidegate/detail/serial_executor.hpp>
#include <tidegate/redis/cache_tier.hpp>
#include <tidegate/redis/detail/exec.hpp>
#include <tidegate/redis/keep_connected.hpp>
#include <tidegate/semaphore.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/redis/connection.hpp>
#include <boost/system/system_error.hpp>
#include <boost/unordered/unordered_flat_map.hpp>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <limits>
#include <mutex>
#include <random>
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
          connection_(std::make_shared<boost::redis::connection>(executor_)),
          watching_(executor_, 1) {
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
        boost::asio::post(executor_, [self = this->shared_from_this()] {
            if (self->run_) self->run_->stop();
            self->connection_->cancel();
        });
    }

    // Reading -----------------------------------------------------------------------------------

    static awaitable<found_values> get_many(self_type self, std::vector<std::string> keys) {
        self->need_connection();
        if (keys.empty()) co_return found_values();
        std::uint64_t const flushes = self->flushes_;
        // A value that is too large shows as such, and what an invalidation left is there in full.
        std::size_t const bytes = std::max(self->largest() + 1, longest_token);
        auto const sent = std::make_shared<call>();
        for (std::string& key : keys) {
            key.insert(0, self->settings_.prefix());
            push_look(sent->request, key, bytes);
        }
        auto asking =
            exec_until(self->connection_, sent, std::chrono::steady_clock::time_point::max());
        error_code const ec = co_await std::move(asking);
        if (ec) throw boost::system::system_error(ec);
        co_return self->read(sent->answer, keys, flushes);
    }

    // Changing ----------------------------------------------------------------------------------

    static awaitable<void> put_many(self_type self, std::vector<tier_entry> entries) {
        self->need_connection();
        auto const sent = std::make_shared<call>();
        std::vector<write> loaded;
        for (auto const& entry : entries) {
            auto one = self->write_of(entry);
            if (!entry.if_missing) push_write(sent->request, one);
            else if (one.is_value()) loaded.push_back(std::move(one));
        }
        auto putting = change(self, sent);
        co_await std::move(putting);
        if (loaded.empty()) co_return;
        auto completing = write_where_missing(self, std::move(loaded));
        co_await std::move(completing);
    }

    static awaitable<void> invalidate(self_type self, std::vector<std::string> keys) {
        self->need_connection();
        auto const sent = std::make_shared<call>();
        for (std::string const& key : keys) push_write(sent->request, self->tombstone(key));
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
        all.overtaken = overtaken_;
        all.too_large = too_large_;
        return all;
    }

private:
    using counter = std::atomic<std::uint64_t>;
    using nodes = std::vector<reply_node>;
    static constexpr std::int64_t kept_longer_ms = 1000;
    static constexpr std::size_t longest_token = 64;
    static constexpr std::size_t most_leases = 16'384; // twice

    // No two processes share one.
    static std::string new_token() {
        std::random_device random;
        std::string token;
        for (int i = 0; i < 4; ++i) token += std::to_string(random()) + '-';
        return token;
    }

    // Connecting; on the executor ---------------------------------------------------------------

    static awaitable<void> run_here(self_type self) {
        co_await boost::asio::this_coro::throw_if_cancelled(false);
        self->over_ = false;
        self->listen();
        try {
            auto connecting = connect_again_and_again(self);
            co_await std::move(connecting);
        } catch (...) { // no memory
            self->stop_running();
            throw;
        }
        self->stop_running();
    }

    static awaitable<void> connect_again_and_again(self_type self) {
        co_await boost::asio::this_coro::throw_if_cancelled(false);
        auto const state = co_await boost::asio::this_coro::cancellation_state;
        auto const is_cancelled = [&] {
            return state.cancelled() != boost::asio::cancellation_type::none;
        };
        while (!self->closed_ && !is_cancelled()) {
            self->ask_for_pushes();
            self->run_ = std::make_shared<connection_run>(self->executor_);
            auto running = run_once(self->connection_, self->server_, self->run_);
            co_await std::move(running);
            self->note_loss();
            if (self->closed_ || is_cancelled()) break;
            auto& pause = self->run_->news;
            pause.expires_after(std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                self->settings_.reconnect_pause()));
            co_await pause.async_wait(boost::asio::as_tuple(boost::asio::deferred));
        }
    }

    void stop_running() {
        over_ = true;
        connected_ = false;
        connection_->cancel();
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
            forget_lease(name);
            tell(name.substr(settings_.prefix().size()));
        }
    }

    void tell(std::string_view key) {
        for (auto const& listener : living()) listener->on_changed(key);
    }
    void tell_all() {
        {
            std::lock_guard lock(mutex_);
            ++flushes_;
            leases_.clear();
            older_leases_.clear();
        }
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

    void need_connection() const {
        if (!connected_) throw boost::system::system_error(boost::redis::error::not_connected);
    }

    // Reading -----------------------------------------------------------------------------------

    std::size_t largest() const noexcept { return settings_.max_value_bytes() + 1; }

    // How long it stays, and its first bytes.
    static void push_look(boost::redis::request& to, std::string const& name, std::size_t bytes) {
        to.push("PTTL", name);
        to.push("GETRANGE", name, 0, bytes - 1);
    }

    struct look {
        std::int64_t left_ms = 0; // 0: there is nothing that counts
        std::string_view content;

        look(reply_node const& time, reply_node const& bytes) noexcept {
            if (time.is_error() || bytes.is_error()) return; // of another type: not ours
            std::int64_t left = 0;
            auto const& text = time.value;
            std::from_chars(text.data(), text.data() + text.size(), left);
            constexpr std::int64_t for_ever = -1; // -2: not there
            left_ms = left == for_ever ? std::numeric_limits<std::int64_t>::max()
                                       : std::max<std::int64_t>(left - kept_longer_ms, 0);
            if (left_ms > 0) content = bytes.value;
        }
        bool is_value() const noexcept { return content.starts_with('v'); }
        bool is_tombstone() const noexcept { return content.starts_with('t'); }
        std::chrono::nanoseconds time_to_live() const noexcept {
            constexpr std::int64_t longest = 315'576'000'000; // 10 years
            if (left_ms > longest) return tier_value::for_ever;
            return std::chrono::milliseconds(left_ms);
        }
    };

    found_values read(replies const& from, std::vector<std::string> const& names,
                      std::uint64_t flushes) {
        if (from.nodes.size() != 2 * names.size())
            throw boost::system::system_error(boost::redis::error::incompatible_size);
        found_values found(names.size());
        for (std::size_t i = 0; i < names.size(); ++i) {
            look const there(from.nodes[2 * i], from.nodes[2 * i + 1]);
            note_lease(names[i], there, flushes);
            if (!there.is_value()) continue;
            if (there.content.size() > largest()) ++too_large_;
            else found[i] = tier_value{std::string(there.content.substr(1)), there.time_to_live()};
        }
        return found;
    }

    // Whoever saw that nothing is there, or an invalidation, may write there while nobody changes
    // it. Those who never write are forgotten as others come.
    void note_lease(std::string const& name, look const& there, std::uint64_t flushes) {
        std::lock_guard lock(mutex_);
        bool const may_write = there.content.empty() || there.is_tombstone();
        if (!may_write || flushes != flushes_) return static_cast<void>(take_lease(name));
        if (leases_.size() >= most_leases) {
            older_leases_ = std::move(leases_);
            leases_.clear();
        }
        leases_.insert_or_assign(name, std::string(there.content));
    }
    bool may_write(std::string const& name, look const& there) {
        std::lock_guard lock(mutex_);
        auto const lease = take_lease(name);
        return lease && (there.left_ms == 0 || there.content == *lease);
    }
    void forget_lease(std::string_view name) {
        std::lock_guard lock(mutex_);
        take_lease(std::string(name));
    }

    // Under the lock.
    std::optional<std::string> take_lease(std::string const& name) {
        std::optional<std::string> lease;
        for (auto* const some : {&older_leases_, &leases_}) {
            auto const it = some->find(name);
            if (it == some->end()) continue;
            lease = std::move(it->second);
            some->erase(it);
        }
        return lease;
    }

    // Changing ----------------------------------------------------------------------------------

    struct write {
        std::string name;
        std::string content;
        std::int64_t ms; // 0: for ever

        bool is_value() const noexcept { return content.starts_with('v'); }
    };

    write write_of(tier_entry const& entry) {
        auto const& value = entry.value;
        auto const ms =
            std::chrono::duration_cast<std::chrono::milliseconds>(value.time_to_live).count();
        bool const is_too_large = value.bytes.size() > settings_.max_value_bytes();
        if (is_too_large) ++too_large_;
        if (is_too_large || ms <= 0) return tombstone(entry.key);
        bool const for_ever = value.time_to_live == tier_value::for_ever;
        return {settings_.prefix() + entry.key, 'v' + value.bytes,
                for_ever ? 0 : ms + kept_longer_ms};
    }

    // Not a removal, which nobody is told of if there is nothing to remove.
    write tombstone(std::string const& key) {
        return {settings_.prefix() + key, 't' + token_ + std::to_string(++tombstones_),
                settings_.longest_load().count() + kept_longer_ms};
    }

    static void push_write(boost::redis::request& to, write const& one) {
        if (one.ms) to.push("SET", one.name, one.content, "PX", one.ms);
        else to.push("SET", one.name, one.content);
    }

    // Cancelling it is no use: see `tidegate::cache_tier`. One at a time, since the connection has
    // one set of watched keys. A script would need no watching, but its changes are reported to
    // those who make them.
    static awaitable<void> write_where_missing(self_type self, std::vector<write> loaded) {
        auto const turn = co_await self->watching_.acquire();
        std::uint64_t const connection = self->connections_;
        auto const looked = std::make_shared<call>();
        for (auto const& one : loaded) looked->request.push("WATCH", one.name);
        for (auto const& one : loaded) push_look(looked->request, one.name, longest_token);
        auto looking = change(self, looked, 0);
        co_await std::move(looking);
        auto const sent = std::make_shared<call>();
        sent->request.push("MULTI");
        std::size_t written = 0;
        auto const& said = looked->answer.nodes;
        for (std::size_t i = 0; i < loaded.size(); ++i) {
            std::size_t const at = loaded.size() + 2 * i;
            if (at + 1 >= said.size()) break;
            look const there(said[at], said[at + 1]);
            if (!self->may_write(loaded[i].name, there)) continue;
            push_write(sent->request, loaded[i]);
            ++written;
        }
        sent->request.push("EXEC");
        // A connection made since watches nothing. It may be made as long as this thread stands
        // still, so that is asked where connections are made.
        sent->may_be_sent = [self, connection] {
            return self->connected_ && connection == self->connections_;
        };
        auto writing = change(self, sent);
        co_await std::move(writing);
        // Nothing is written if one of them was changed since.
        bool const aborted = sent->answer.nodes.back().type == boost::redis::resp3::type::null;
        self->overtaken_ += loaded.size() - (aborted ? 0 : written);
    }

    static awaitable<void> change(self_type self, std::shared_ptr<call> sent) {
        return change(std::move(self), std::move(sent), std::numeric_limits<std::size_t>::max());
    }
    static awaitable<void> change(self_type self, std::shared_ptr<call> sent, std::size_t checked) {
        self->need_connection();
        if (sent->request.get_commands() == 0) co_return;
        auto asking = exec_to_the_end(self->connection_, sent);
        error_code const ec = co_await std::move(asking);
        if (ec) throw boost::system::system_error(ec);
        for (auto const& node : sent->answer.nodes) {
            if (checked-- == 0) break;
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
    std::shared_ptr<connection_run> run_; // the last one
    std::uint64_t turn_ = 0;              // counts connections, and attempts at one
    client_name name_;                    // of the last one
    replies pushed_;

    std::string const token_ = new_token();
    semaphore watching_;
    std::mutex mutable mutex_;
    std::vector<std::weak_ptr<tier_listener>> listeners_;
    boost::unordered_flat_map<std::string, std::string> leases_; // see note_lease
    boost::unordered_flat_map<std::string, std::string> older_leases_;
    counter tombstones_{0};
    counter overtaken_{0};
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
