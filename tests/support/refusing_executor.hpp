// SPDX-License-Identifier: BSL-1.0
// An executor that may have no room.
#pragma once

#include <boost/asio/execution/blocking.hpp>
#include <boost/asio/execution/context.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include <memory>
#include <new>
#include <utility>

namespace test {

/// That of an io_context, but for what it refuses to take: then it throws std::bad_alloc.
class refusing_executor {
public:
    explicit refusing_executor(boost::asio::io_context& io) : inner_(io.get_executor()) {}

    /// After `n` more, it and its copies take one thing less, or nothing at all.
    void refuse_one_after(int n) const { *how_ = {n, 1}; }
    void refuse_all() const { *how_ = {0, 1 << 30}; }
    void refuse_none() const { *how_ = {}; }
    /// Whether there is something yet that it is to refuse.
    bool is_to_refuse() const { return how_->refuses > 0; }

    boost::asio::execution_context& query(boost::asio::execution::context_t) const noexcept {
        return inner_.context();
    }
    static constexpr boost::asio::execution::blocking_t::never_t
    query(boost::asio::execution::blocking_t) {
        return boost::asio::execution::blocking.never;
    }
    refusing_executor require(boost::asio::execution::blocking_t::never_t) const { return *this; }
    template <class Function>
    void execute(Function&& f) const {
        if (how_->refuses > 0 && how_->takes-- <= 0) {
            --how_->refuses;
            throw std::bad_alloc();
        }
        boost::asio::post(inner_, std::forward<Function>(f));
    }
    bool operator==(refusing_executor const& other) const noexcept { return how_ == other.how_; }

private:
    struct moods {
        int takes = 0;
        int refuses = 0;
    };
    boost::asio::io_context::executor_type inner_;
    std::shared_ptr<moods> how_ = std::make_shared<moods>();
};

} // namespace test
