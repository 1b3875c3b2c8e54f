// SPDX-License-Identifier: BSL-1.0
// The few protobuf messages of onnx.proto that a model of four nodes needs.
#include "tiny_onnx.hpp"

#include <cstring>

namespace {

std::string varint(std::uint64_t value) {
    std::string result;
    for (; value >= 0x80; value >>= 7) {
        result += static_cast<char>((value & 0x7F) | 0x80);
    }
    return result += static_cast<char>(value);
}

std::string number(unsigned field, std::int64_t value) {
    return varint(field << 3) + varint(static_cast<std::uint64_t>(value));
}

std::string bytes_of(unsigned field, const std::string& value) {
    return varint(field << 3 | 2) + varint(value.size()) + value;
}

std::string ints_attribute(const std::string& name, const std::vector<std::int64_t>& values) {
    std::string attribute = bytes_of(1, name);
    for (const auto value : values) {
        attribute += number(8, value);
    }
    return bytes_of(5, attribute + number(20, 7)); // 7: INTS
}

std::string node(const std::string& type, const std::vector<std::string>& inputs,
                 const std::string& output, const std::string& attribute = {}) {
    std::string result;
    for (const auto& input : inputs) {
        result += bytes_of(1, input);
    }
    return bytes_of(1, result + bytes_of(2, output) + bytes_of(4, type) + attribute);
}

template <class T>
std::string initializer(const std::string& name, int type, const std::vector<std::int64_t>& shape,
                        const std::vector<T>& values) {
    std::string raw(values.size() * sizeof(T), '\0');
    std::memcpy(raw.data(), values.data(), raw.size());
    std::string tensor;
    for (const auto dimension : shape) {
        tensor += number(1, dimension);
    }
    return bytes_of(5, tensor + number(2, type) + bytes_of(8, name) + bytes_of(9, raw));
}

std::string value_info(unsigned field, const std::string& name, int type,
                       const std::vector<std::int64_t>& shape) {
    std::string dimensions;
    for (std::size_t i = 0; i < shape.size(); ++i) {
        dimensions += bytes_of(1, shape[i] < 0 ? bytes_of(2, "open" + std::to_string(i))
                                               : number(1, shape[i]));
    }
    const std::string tensor = number(1, type) + bytes_of(2, dimensions);
    return bytes_of(field, bytes_of(1, name) + bytes_of(2, bytes_of(1, tensor)));
}

} // namespace

std::string tiny_onnx::bytes() const {
    const auto count = static_cast<std::size_t>(item[1] * item[2]);
    const std::vector<float> zeros(count, 0);
    const std::string source = input_type == 1 ? "images" : "as_float";

    std::string graph;
    if (input_type != 1) {
        graph += node("Cast", {"images"}, source,
                      bytes_of(5, bytes_of(1, "to") + number(3, 1) + number(20, 2)));
    }
    const std::vector<std::int64_t> other_axes(input.size() == 4 ? std::vector<std::int64_t>{2, 3}
                                                                 : std::vector<std::int64_t>{2});
    graph += node("ReduceMean", {source}, "means",
                  ints_attribute("axes", other_axes));      // N x C x 1 (x 1)
    graph += node("Reshape", {"means", "flat"}, "columns"); // N x C x 1
    graph +=
        node("Slice", {"columns", "zero", "one", "one"}, "mean"); // the first channel: N x 1 x 1
    graph += node("Mul", {"mean", "gain"}, "scaled");
    graph += node("Add", {"scaled", "base"}, only_batch_one ? "sum" : "output0");
    if (only_batch_one) {
        graph += node("Reshape", {"sum", "item"}, "output0");
    }
    graph += bytes_of(2, "tiny");
    graph += initializer<std::int64_t>("flat", 7, {3}, {0, input[1] < 0 ? 3 : input[1], 1});
    graph += initializer<std::int64_t>("item", 7, {3}, item);
    graph += initializer<std::int64_t>("zero", 7, {1}, {0});
    graph += initializer<std::int64_t>("one", 7, {1}, {1});
    graph += initializer("gain", 1, item, gain.empty() ? zeros : gain);
    graph += initializer("base", 1, item, base.empty() ? zeros : base);
    graph += value_info(11, "images", input_type, input);
    graph += value_info(12, "output0", 1, {-1, item[1], item[2]});
    if (second_output) {
        graph += value_info(12, "mean", 1, {-1, 1, 1});
    }

    std::string model =
        number(1, 6) + bytes_of(8, bytes_of(1, "") + number(2, 11)) + bytes_of(7, graph);
    for (const auto& [key, value] : metadata) {
        model += bytes_of(14, bytes_of(1, key) + bytes_of(2, value));
    }
    return model;
}
