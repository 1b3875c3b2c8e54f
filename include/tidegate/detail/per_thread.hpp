// SPDX-License-Identifier: BSL-1.0
// A piece of an object for each thread that uses it, which only that thread writes.
#pragma once

#include <tidegate/config.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Somebody whose pieces threads have.
class piece_owner {
public:
    /// The thread ends: its piece is the owner's again.
    virtual void take_back(void* piece) noexcept = 0;

protected:
    ~piece_owner() = default;
};

/// Who is number n. Never destroyed: threads may end after everything else.
class piece_owners {
public:
    static piece_owners& all() {
        static auto* const only = new piece_owners;
        return *only;
    }

    struct ticket {
        std::size_t number;
        std::uint64_t generation; // of that number: never the same twice
    };

    ticket enter(piece_owner& owner) {
        std::lock_guard lock(mutex_);
        if (free_.empty()) {
            owners_.push_back({});
            free_.push_back(owners_.size() - 1);
            free_.reserve(owners_.size()); // so that leaving cannot fail
        }
        std::size_t const number = free_.back();
        free_.pop_back();
        owners_[number] = {&owner, ++generations_};
        return {number, generations_};
    }

    void leave(ticket which) noexcept {
        std::lock_guard lock(mutex_);
        owners_[which.number] = {};
        free_.push_back(which.number);
    }

    void thread_ends(ticket which, void* piece) noexcept {
        std::lock_guard lock(mutex_);
        auto const& [owner, generation] = owners_[which.number];
        if (generation == which.generation) owner->take_back(piece);
    }

private:
    struct entry {
        piece_owner* owner = nullptr;
        std::uint64_t generation = 0;
    };

    std::mutex mutex_;
    std::vector<entry> owners_;
    std::vector<std::size_t> free_;
    // Two modules with a registry each do not take the other's pieces for theirs.
    std::uint64_t generations_ = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(this))
                                 << 16;
};

/// The pieces that this thread has, by the owner's number. Plain data, so that reading it costs no
/// check whether it was made.
struct thread_pieces {
    struct piece {
        void* where;
        std::uint64_t generation;
    };

    piece* pieces;
    std::size_t size;
    bool ended;
};
inline constinit thread_local thread_pieces this_thread_pieces{nullptr, 0, false};

/// Gives them back at the thread's end.
class thread_end {
public:
    /// Might throw std::bad_alloc, and then did nothing.
    static void note(piece_owners::ticket owner, void* where) {
        static thread_local thread_end at;
        if (at.pieces_.size() <= owner.number) at.pieces_.resize(owner.number + 1);
        at.pieces_[owner.number] = {where, owner.generation};
        this_thread_pieces = {at.pieces_.data(), at.pieces_.size(), false};
    }

    thread_end() = default;
    thread_end(thread_end const&) = delete;
    thread_end& operator=(thread_end const&) = delete;
    ~thread_end() {
        this_thread_pieces = {nullptr, 0, true};
        for (std::size_t i = 0; i < pieces_.size(); ++i) {
            auto const& [where, generation] = pieces_[i];
            if (where) piece_owners::all().thread_ends({i, generation}, where);
        }
    }

private:
    std::vector<thread_pieces::piece> pieces_;
};

/// `Piece`s for threads, made by `Owner::new_piece()` if it has that. When a thread ends,
/// `Owner::fold(Piece const&)` is called under the lock, and the piece goes unless that throws.
template <class Owner, class Piece>
class per_thread : piece_owner {
public:
    explicit per_thread(Owner& owner) : owner_(owner), ticket_(piece_owners::all().enter(*this)) {}
    per_thread(per_thread const&) = delete;
    per_thread& operator=(per_thread const&) = delete;
    ~per_thread() { piece_owners::all().leave(ticket_); }

    /// This thread's piece, made on first use; null if there is no memory, or if the thread has
    /// ended but for destructors. Not to be kept across a suspension of a coroutine.
    Piece* mine() noexcept {
        auto const& have = this_thread_pieces;
        if (ticket_.number < have.size) [[likely]] {
            auto const& piece = have.pieces[ticket_.number];
            if (piece.generation == ticket_.generation) [[likely]]
                return static_cast<Piece*>(piece.where);
        }
        return make();
    }

    /// Calls `use(std::vector<std::unique_ptr<Piece>> const&)` under the lock.
    template <class Use>
    decltype(auto) with_all(Use&& use) const {
        std::lock_guard lock(mutex_);
        return use(std::as_const(pieces_));
    }

private:
    [[gnu::noinline]] Piece* make() noexcept {
        if (this_thread_pieces.ended) return nullptr;
        try {
            auto fresh = new_piece();
            Piece* const piece = fresh.get();
            std::lock_guard lock(mutex_);
            pieces_.push_back(std::move(fresh));
            try {
                thread_end::note(ticket_, piece);
            } catch (...) {
                pieces_.pop_back();
                return nullptr;
            }
            return piece;
        } catch (...) { // no memory
            return nullptr;
        }
    }

    std::unique_ptr<Piece> new_piece() {
        if constexpr (requires { owner_.new_piece(); }) return owner_.new_piece();
        else return std::make_unique<Piece>();
    }

    void take_back(void* piece) noexcept override {
        std::lock_guard lock(mutex_);
        for (auto& one : pieces_) {
            if (one.get() != piece) continue;
            try {
                owner_.fold(*one);
            } catch (...) { // no memory: the piece stays, and counts on
                return;
            }
            std::swap(one, pieces_.back());
            pieces_.pop_back();
            return;
        }
    }

    Owner& owner_;
    mutable std::mutex mutex_;
    std::vector<std::unique_ptr<Piece>> pieces_;
    piece_owners::ticket const ticket_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
