// SPDX-License-Identifier: BSL-1.0
// Tells every primitive of an execution context that the context is going away.
#pragma once

#include <tidegate/config.hpp>

#include <boost/asio/execution_context.hpp>

#include <memory>
#include <mutex>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

namespace asio = boost::asio;

class shutdown_registry;

/// Something that must let go of its handlers before the context's services are destroyed.
class shutdown_member {
public:
    shutdown_member(shutdown_member const&) = delete;
    shutdown_member& operator=(shutdown_member const&) = delete;

protected:
    shutdown_member() = default;
    ~shutdown_member() = default;

    /// Called once, with no lock held, while the context is being destroyed.
    virtual void shutdown() noexcept = 0;

    /// Keeps the member alive during `shutdown`; empty when its destructor already runs.
    virtual std::shared_ptr<void> keep_alive() noexcept = 0;

private:
    friend class shutdown_registry;
    shutdown_member* next_ = nullptr;
    shutdown_member* previous_ = nullptr;
    bool enrolled_ = false;
};

/// The members of one context. Shared by the context's service and the members, since either may
/// outlive the other.
class shutdown_registry {
public:
    void enroll(shutdown_member& m) {
        std::lock_guard lock(mutex_);
        m.next_ = first_;
        if (first_) first_->previous_ = &m;
        first_ = &m;
        m.enrolled_ = true;
    }

    void leave(shutdown_member& m) noexcept {
        std::lock_guard lock(mutex_);
        if (m.enrolled_) unlink(m);
    }

    void shutdown() noexcept {
        while (std::shared_ptr<void> kept = next()) {
            taken_->shutdown();
        }
    }

private:
    std::shared_ptr<void> next() noexcept {
        std::lock_guard lock(mutex_);
        while (first_) {
            taken_ = first_;
            std::shared_ptr<void> kept = taken_->keep_alive();
            unlink(*taken_);
            if (kept) return kept;
        }
        return nullptr;
    }

    void unlink(shutdown_member& m) noexcept {
        (m.previous_ ? m.previous_->next_ : first_) = m.next_;
        if (m.next_) m.next_->previous_ = m.previous_;
        m.next_ = m.previous_ = nullptr;
        m.enrolled_ = false;
    }

    std::mutex mutex_;
    shutdown_member* first_ = nullptr;
    shutdown_member* taken_ = nullptr; // used by the one thread that destroys the context
};

class shutdown_service final : public asio::execution_context::service {
public:
    inline static asio::execution_context::id id;

    explicit shutdown_service(asio::execution_context& context)
        : asio::execution_context::service(context) {}

    static std::shared_ptr<shutdown_registry> registry_of(asio::execution_context& context) {
        return asio::use_service<shutdown_service>(context).registry_;
    }

private:
    void shutdown() noexcept override { registry_->shutdown(); }

    std::shared_ptr<shutdown_registry> registry_ = std::make_shared<shutdown_registry>();
};

} // namespace detail
TIDEGATE_END_NAMESPACE
