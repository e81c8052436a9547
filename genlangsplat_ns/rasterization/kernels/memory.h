// Aligned buffers whose contents start undefined: clearing megabytes that are about to be written costs milliseconds.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>
#include <type_traits>
#include <utility>

namespace gls {

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

    // Makes room for `size` items; what was there is lost when the room has to grow.
    void resize(size_t size) {
        if (size > capacity_) {
            release();
            // 64 spare bytes let vector code read and write past the last item.
            const size_t bytes = (size * sizeof(T) + 127) / 64 * 64;
            data_ = static_cast<T*>(::operator new(bytes, std::align_val_t(64)));
            capacity_ = size;
        }
        size_ = size;
    }
    // Makes room and keeps what was there.
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
    }
    void release() {
        if (data_ != nullptr) ::operator delete(data_, std::align_val_t(64));
        data_ = nullptr;
        size_ = capacity_ = 0;
    }
    T* data_ = nullptr;
    size_t size_ = 0;
    size_t capacity_ = 0;
};

}  // namespace gls
