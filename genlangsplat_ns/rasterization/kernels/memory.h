// Aligned, uninitialized buffers: clearing megabytes that are overwritten anyway costs milliseconds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace gls {

constexpr size_t kHugePage = size_t(1) << 21;

// Blocks from this size on come from the operating system, which clears them. Their sizes are rounded, so that a block
// is reused for an array of a slightly different size.
constexpr size_t kLarge = size_t(1) << 17;
inline size_t block_bytes(size_t bytes) {
    const size_t step = bytes < kHugePage / 2 ? kLarge : kHugePage;
    return (bytes + step - 1) / step * step;
}
inline std::align_val_t block_alignment(size_t bytes) { return std::align_val_t(bytes < kHugePage ? 4096 : kHugePage); }

// Requests pages of 2 MB for large arrays: page faults for every 4 KB of fresh memory can cost more than the work.
inline void advise_huge_pages(void* start, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    const uintptr_t first = (reinterpret_cast<uintptr_t>(start) + kHugePage - 1) / kHugePage * kHugePage;
    const uintptr_t last = (reinterpret_cast<uintptr_t>(start) + bytes) / kHugePage * kHugePage;
    // A failure affects only the speed.
    if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
    (void)start, (void)bytes;
#endif
}

// Keeps large freed blocks for the next image, because the operating system clears fresh memory page by page.
class BlockCache {
  public:
    static constexpr size_t kLimit = size_t(256) << 20;  // maximum number of bytes kept

    static BlockCache& instance() {
        static BlockCache* cache = new BlockCache();  // outlives every buffer
        return *cache;
    }
    // `bytes` is a result of block_bytes.
    void* take(size_t bytes) {
        // Never blocks: in a forked child, another thread may have locked the mutex forever.
        std::unique_lock<std::mutex> lock(guard_, std::try_to_lock);
        for (size_t i = 0; lock && i < free_.size(); ++i)
            if (free_[i].bytes == bytes) {
                void* block = free_[i].start;
                free_.erase(free_.begin() + i);
                kept_ -= bytes;
                return block;
            }
        void* block = ::operator new(bytes, block_alignment(bytes));
        advise_huge_pages(block, bytes);
        return block;
    }
    // Destructors call this while an error is handled, so it needs no memory.
    void give_back(void* block, size_t bytes) noexcept {
        std::unique_lock<std::mutex> lock(guard_, std::try_to_lock);
        if (!lock || bytes > kLimit) return ::operator delete(block, block_alignment(bytes));
        // The oldest blocks are freed first.
        while (!free_.empty() && (kept_ + bytes > kLimit || free_.size() == kMaxBlocks)) {
            kept_ -= free_.front().bytes;
            ::operator delete(free_.front().start, block_alignment(free_.front().bytes));
            free_.erase(free_.begin());
        }
        free_.push_back({block, bytes});
        kept_ += bytes;
    }

  private:
    struct Block {
        void* start;
        size_t bytes;
    };
    static constexpr size_t kMaxBlocks = kLimit / kLarge;
    BlockCache() { free_.reserve(kMaxBlocks); }
    std::mutex guard_;
    std::vector<Block> free_;
    size_t kept_ = 0;
};

template <class T>
class Buffer {
    static_assert(std::is_trivially_copyable<T>::value, "a Buffer neither constructs nor destroys its items");

  public:
    Buffer() = default;
    explicit Buffer(size_t size) { resize(size); }
    Buffer(Buffer&& other) noexcept { swap(other); }
    Buffer& operator=(Buffer&& other) noexcept {
        swap(other);
        return *this;
    }
    ~Buffer() { release(); }

    // Resizes to `size` items; the contents are lost if the capacity grows.
    void resize(size_t size) {
        if (size > capacity_) {
            release();
            // Vector code may read and write up to 64 bytes past the last item.
            size_t bytes = (size * sizeof(T) + 127) / 64 * 64;
            if (bytes >= kLarge) {
                bytes = block_bytes(bytes);
                data_ = static_cast<T*>(BlockCache::instance().take(bytes));
                cached_bytes_ = bytes;
            } else {
                data_ = static_cast<T*>(::operator new(bytes, std::align_val_t(64)));
            }
            capacity_ = size;
        }
        size_ = size;
    }
    // Resizes and keeps the contents.
    void grow(size_t size) {
        if (size <= capacity_) {
            size_ = size;
            return;
        }
        Buffer larger(size + size / 2);
        for (size_t i = 0; i < size_; ++i) larger.data_[i] = data_[i];
        larger.size_ = size;
        swap(larger);
    }
    T* data() { return data_; }
    const T* data() const { return data_; }
    size_t size() const { return size_; }
    T& operator[](size_t i) { return data_[i]; }
    const T& operator[](size_t i) const { return data_[i]; }

  private:
    void swap(Buffer& other) {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        std::swap(capacity_, other.capacity_);
        std::swap(cached_bytes_, other.cached_bytes_);
    }
    void release() {
        if (cached_bytes_ > 0) BlockCache::instance().give_back(data_, cached_bytes_);
        else if (data_ != nullptr) ::operator delete(data_, std::align_val_t(64));
        data_ = nullptr;
        size_ = capacity_ = cached_bytes_ = 0;
    }
    T* data_ = nullptr;
    size_t size_ = 0;
    size_t capacity_ = 0;
    size_t cached_bytes_ = 0;  // size of the block if it is from the cache
};

// Allocates arrays that live as long as the arena, from blocks large enough for huge pages.
class Arena {
  public:
    template <class T>
    T* take(size_t size) {
        // As in a Buffer, vector code may access bytes past the end.
        const size_t bytes = (size * sizeof(T) + 127) / 64 * 64;
        if (used_ + bytes > room_) {
            // The padding that a Buffer adds must fit into the last page.
            room_ = (bytes > 2 * kHugePage ? bytes : 2 * kHugePage) - 64;
            if (room_ < bytes) room_ = bytes;
            blocks_.emplace_back(room_);
            used_ = 0;
        }
        T* result = reinterpret_cast<T*>(blocks_.back().data() + used_);
        used_ += bytes;
        taken_ += bytes;
        return result;
    }
    // Bytes in use; the rest of a block is never touched and takes no memory.
    size_t bytes() const { return taken_; }

  private:
    std::vector<Buffer<unsigned char>> blocks_;
    size_t used_ = 0, room_ = 0, taken_ = 0;
};

}  // namespace gls
