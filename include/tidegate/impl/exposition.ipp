// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <tidegate/detail/utf8.hpp>
#include <tidegate/exposition.hpp>

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Writes families in either format.
class exposition_writer {
public:
    explicit exposition_writer(bool open_metrics) noexcept : open_metrics_(open_metrics) {}

    std::string write(std::vector<metric_family> const& families) && {
        for (auto const& one : families) {
            if (!one.samples.empty()) write(one);
        }
        if (open_metrics_) text_ += "# EOF\n";
        return std::move(text_);
    }

private:
    static constexpr int first_power = -20, last_power = 8; // of two, in seconds

    void write(metric_family const& family) {
        bool const counts = family.type == metric_type::counter;
        // The older format takes a counter's suffix for a part of its name.
        std::string const name = family.name + (counts && !open_metrics_ ? "_total" : "");
        text_ += "# HELP " + name + " ";
        escape(family.help, open_metrics_);
        text_ += "\n# TYPE " + name + " ";
        text_ += to_string(family.type);
        text_ += '\n';
        if (open_metrics_) unit(name);
        for (auto const& sample : family.samples) {
            if (sample.durations) histogram(family.name, sample);
            else line(family.name + (counts ? "_total" : ""), sample.labels, {}, sample.value);
        }
    }

    void unit(std::string const& name) {
        for (std::string_view const known : {"seconds", "bytes", "ratio"}) {
            if (name.size() > known.size() + 1 && name.ends_with("_" + std::string(known)))
                text_.append("# UNIT ").append(name).append(" ").append(known).append("\n");
        }
    }

    void histogram(std::string const& name, metric_sample const& sample) {
        auto const& all = *sample.durations;
        std::array<std::uint64_t, last_power - first_power + 1> counts{};
        all.for_each([&](std::size_t slot, std::uint64_t n) {
            int const power = core::duration_grid::bucket_of(slot, 0);
            if (power <= last_power)
                counts[static_cast<std::size_t>(std::max(power, first_power) - first_power)] += n;
        });
        std::uint64_t upto = all.zeros();
        for (int power = first_power; power <= last_power; ++power) {
            upto += counts[static_cast<std::size_t>(power - first_power)];
            line(name + "_bucket", sample.labels, number(std::ldexp(1.0, power), true), upto);
        }
        line(name + "_bucket", sample.labels, "+Inf", all.count());
        line(name + "_sum", sample.labels, {}, all.sum() * 1e-9);
        line(name + "_count", sample.labels, {}, all.count());
    }

    template <class Value>
    void line(std::string_view name, metric_labels const& labels, std::string_view le,
              Value value) {
        text_ += name;
        char before = '{';
        for (auto const& [label, what] : labels) {
            text_ += before;
            text_ += label;
            text_ += "=\"";
            escape(what, true);
            text_ += '"';
            before = ',';
        }
        if (!le.empty()) {
            text_ += before;
            text_.append("le=\"").append(le).append("\"");
            before = ',';
        }
        if (before == ',') text_ += '}';
        text_ += ' ';
        text_ += number(value, false);
        text_ += '\n';
    }

    void escape(std::string_view from, bool quotes) {
        if (!is_utf8(from)) return escape(to_utf8(from), quotes); // else nothing would be read
        for (char const c : from) {
            if (c == '\\') text_ += "\\\\";
            else if (c == '\n') text_ += "\\n";
            else if (c == '"' && quotes) text_ += "\\\"";
            else text_ += c;
        }
    }

    static std::string number(std::uint64_t value, bool) { return std::to_string(value); }
    // `always_float`: bounds have a point even if they are whole.
    static std::string number(double value, bool always_float) {
        if (std::isnan(value)) return "NaN";
        if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
        std::array<char, 32> digits;
        auto const [end, error] =
            std::to_chars(digits.data(), digits.data() + digits.size(), value);
        std::string text(digits.data(), end);
        if (always_float && text.find_first_of(".e") == text.npos) text += ".0";
        return text;
    }

    bool const open_metrics_;
    std::string text_;
};

} // namespace detail

TIDEGATE_DECL std::string to_prometheus_text(std::vector<metric_family> const& families) {
    return detail::exposition_writer(false).write(families);
}

TIDEGATE_DECL std::string to_open_metrics(std::vector<metric_family> const& families) {
    return detail::exposition_writer(true).write(families);
}

TIDEGATE_END_NAMESPACE
