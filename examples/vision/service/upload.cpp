// SPDX-License-Identifier: BSL-1.0
#include "upload.hpp"

namespace vision::service {

namespace {

std::string finish_hash(boost::hash2::sha2_256& hash) { return to_string(hash.result()); }

} // namespace

upload::upload(std::filesystem::path path) : file_(std::move(path)), out_(file_) {}

void upload::append(std::string_view bytes) {
    out_.write(bytes);
    hash_.update(bytes.data(), bytes.size());
    size_ += bytes.size();
}

std::string upload::finish() {
    out_.make_durable();
    out_.close();
    file_.commit();
    return finish_hash(hash_);
}

std::string sha256(std::string_view text) {
    boost::hash2::sha2_256 hash;
    hash.update(text.data(), text.size());
    return finish_hash(hash);
}

} // namespace vision::service
