// SPDX-License-Identifier: BSL-1.0
#include "job_wishes.hpp"

#include "query.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include <algorithm>

namespace vision::service {

namespace json = boost::json;

namespace {

enum class form { text, number, flag };

struct option {
    std::string_view name;
    form how;
    void (*set)(job& one, std::string_view name, std::string_view text);
};

constexpr auto every_n = [](job& one, std::string_view name, std::string_view text) {
    one.options.every_n = number_in<std::size_t>(name, text, 1, 100'000);
};
constexpr auto chunk = [](job& one, std::string_view name, std::string_view text) {
    one.options.chunk = number_in<std::size_t>(name, text, 1, 100'000);
};
constexpr auto confidence = [](job& one, std::string_view name, std::string_view text) {
    one.options.confidence = number_in<float>(name, text, 0, 1);
};
constexpr auto iou = [](job& one, std::string_view name, std::string_view text) {
    one.options.iou = number_in<float>(name, text, 0, 1);
};
constexpr auto annotate = [](job& one, std::string_view name, std::string_view text) {
    one.options.annotate = flag(name, text);
};
constexpr auto urgent = [](job& one, std::string_view name, std::string_view text) {
    one.options.urgent = flag(name, text);
};
constexpr auto model = [](job& one, std::string_view, std::string_view text) {
    one.options.model = text;
};
constexpr auto set_name = [](job& one, std::string_view, std::string_view text) {
    one.name = label(text);
};

constexpr option options[] = {
    {"name", form::text, set_name}, {"every_n", form::number, every_n},
    {"chunk", form::number, chunk}, {"confidence", form::number, confidence},
    {"iou", form::number, iou},     {"annotate", form::flag, annotate},
    {"urgent", form::flag, urgent}, {"model", form::text, model},
};

const option& option_of(std::string_view name) {
    auto const* const found = std::ranges::find(options, name, &option::name);
    if (found != std::end(options)) return *found;
    throw bad_request(fmt::format("there is no option '{}', but name, every_n, chunk, confidence, "
                                  "iou, annotate, urgent and model",
                                  label(name)));
}

// As it would stand in a query.
std::string text_of(const option& which, const json::value& value) {
    if (which.how == form::text && value.is_string()) return std::string(value.as_string());
    if (which.how == form::flag && value.is_bool()) return value.as_bool() ? "true" : "false";
    if (which.how == form::number) {
        if (value.is_int64()) return fmt::to_string(value.as_int64());
        if (value.is_uint64()) return fmt::to_string(value.as_uint64());
        if (value.is_double()) return fmt::to_string(value.as_double());
    }
    char const* const wanted = which.how == form::text   ? "a string"
                               : which.how == form::flag ? "true or false"
                                                         : "a number";
    throw bad_request(
        fmt::format("{} is {}, allowed is {}", which.name, label(json::serialize(value)), wanted));
}

} // namespace

void job_wishes::set(std::string_view name, std::string_view text) {
    const option& which = option_of(name);
    if (std::ranges::find(named_, name) != named_.end())
        throw bad_request(fmt::format("{} is given twice", name));
    named_.emplace_back(name);
    which.set(one_, name, text);
    const std::string& wanted = one_.options.model;
    if (!wanted.empty() && !is_model_(wanted))
        throw bad_request("there is no model '" + label(wanted) + "'");
}

void job_wishes::read_query(const std::vector<std::pair<std::string, std::string>>& query) {
    for (const auto& [name, text] : query) set(name, text);
}

void job_wishes::read_json(std::string_view text) {
    boost::system::error_code ec;
    json::value const all = json::parse(text, ec);
    if (ec) throw bad_request("the options are no JSON: " + ec.message());
    if (!all.is_object()) {
        throw bad_request(
            fmt::format("the options are {}, allowed is an object", label(json::serialize(all))));
    }
    for (const auto& [name, value] : all.get_object()) set(name, text_of(option_of(name), value));
}

} // namespace vision::service
