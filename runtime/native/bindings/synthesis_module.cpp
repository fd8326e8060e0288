// Bindings of the synthesis network: arrays are checked here, copied by the constructor, computed in
// synthesis.cpp.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "networks/synthesis.h"

namespace nb = nanobind;

using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Codes = nb::ndarray<const float, nb::shape<-1, -1>, nb::c_contig, nb::device::cpu>;
using Picture = nb::ndarray<float, nb::shape<3, -1, -1>, nb::c_contig, nb::device::cpu>;
using Coarse = nb::ndarray<nb::numpy, float, nb::shape<3, -1, -1>, nb::c_contig>;
using ChooseRows = nb::typed<nb::callable, std::pair<int64_t, int64_t>(std::vector<Coarse>)>;

namespace {

using Fields = nb::typed<nb::dict, nb::str, nb::any>;

// The array `key` of a layer; it must have `count` values.
const float *values(const nb::dict &layer, const char *key, int64_t count) {
    const Floats array = nb::cast<Floats>(layer[key], false);
    if (static_cast<int64_t>(array.size()) != count)
        throw nb::value_error((std::string(key) + ": expected " + std::to_string(count) + " values, got " +
                               std::to_string(array.size()))
                                  .c_str());
    return array.data();
}

int64_t number(const nb::dict &layer, const char *key) { return nb::cast<int64_t>(layer[key]); }

doppelgan::Style style(const nb::dict &layer, int64_t w_dim, int64_t rows) {
    const int64_t row = number(layer, "row"), inputs = number(layer, "inputs");
    if (row < 0 || row >= rows || inputs < 1)
        throw nb::value_error("a layer's row or inputs are out of range");
    return {row, values(layer, "style_weight", inputs * w_dim), values(layer, "style_bias", inputs)};
}

void take_fir(const nb::dict &layer, float down[4], float across[4]) {
    const float *vertical = values(layer, "fir_down", 4), *horizontal = values(layer, "fir_across", 4);
    for (int k = 0; k < 4; ++k) down[k] = vertical[k], across[k] = horizontal[k];
}

std::unique_ptr<doppelgan::Synthesis> build(int64_t w_dim, int64_t rows, const Floats &constant,
                                            const std::vector<Fields> &convolutions,
                                            const std::vector<Fields> &rgbs, const std::string &precision) {
    if (precision != "float32" && precision != "int16")
        throw nb::value_error(("precision: expected float32 or int16, got " + precision).c_str());
    if (w_dim < 1 || rgbs.empty() || convolutions.size() != 2 * rgbs.size() - 1)
        throw nb::value_error("expected two convolutions for every RGB layer, less one at 4 pixels");
    std::vector<doppelgan::StyledLayer> layers;
    int64_t size = 4;
    for (size_t n = 0; n < convolutions.size(); ++n) {
        const Fields &from = convolutions[n];
        doppelgan::StyledLayer layer{};
        layer.inputs = number(from, "inputs"), layer.outputs = number(from, "outputs");
        layer.up = n % 2 == 1;
        if (layer.up) size *= 2;
        if (layer.outputs < 1 || (n > 0 && layer.inputs != layers.back().outputs))
            throw nb::value_error("a convolution must take what the one before it gives");
        layer.style = style(from, w_dim, rows);
        layer.weight = values(from, "weight", layer.outputs * layer.inputs * doppelgan::TAPS);
        layer.demod = values(from, "demod", layer.outputs * layer.inputs);
        layer.eps = values(from, "eps", layer.outputs);
        layer.bias = values(from, "bias", layer.outputs);
        layer.noise = values(from, "noise", size * size);
        layer.clamp = nb::cast<float>(from["clamp"]);
        if (layer.up) take_fir(from, layer.fir_down, layer.fir_across);
        layers.push_back(layer);
    }
    std::vector<doppelgan::RgbLayer> colors;
    for (size_t level = 0; level < rgbs.size(); ++level) {
        doppelgan::RgbLayer layer{};
        layer.inputs = number(rgbs[level], "inputs");
        if (layer.inputs != layers[2 * level].outputs)
            throw nb::value_error("an RGB layer must take what the last convolution of its resolution gives");
        layer.style = style(rgbs[level], w_dim, rows);
        layer.weight = values(rgbs[level], "weight", 3 * layer.inputs);
        layer.bias = values(rgbs[level], "bias", 3);
        layer.clamp = nb::cast<float>(rgbs[level]["clamp"]);
        if (level > 0) take_fir(rgbs[level], layer.fir_down, layer.fir_across);
        colors.push_back(layer);
    }
    if (static_cast<int64_t>(constant.size()) != layers[0].inputs * 16)
        throw nb::value_error("constant: expected [inputs of the first convolution, 4, 4]");
    return std::make_unique<doppelgan::Synthesis>(
        w_dim, rows, constant.data(), layers, colors,
        precision == "int16" ? doppelgan::Arithmetic::int16 : doppelgan::Arithmetic::float32);
}

void check(const doppelgan::Synthesis &synthesis, const Codes &codes, const Picture &picture) {
    const int64_t size = static_cast<int64_t>(picture.shape(1));
    if (static_cast<int64_t>(codes.shape(0)) != synthesis.rows() ||
        static_cast<int64_t>(codes.shape(1)) != synthesis.w_dim())
        throw nb::value_error("codes have another shape than the network's");
    if (static_cast<int64_t>(picture.shape(2)) != size || size < 4 || size > synthesis.size() ||
        synthesis.size() % size != 0 || (size & (size - 1)) != 0)
        throw nb::value_error("a picture must have the network's size, or a smaller resolution's");
}

void run(doppelgan::Synthesis &synthesis, const Codes &codes, const Picture &picture, int threads) {
    check(synthesis, codes, picture);
    const float *const all_codes[] = {codes.data()};
    float *const pictures[] = {picture.data()};
    const int64_t size = static_cast<int64_t>(picture.shape(1));
    nb::gil_scoped_release release;
    synthesis.run(all_codes, pictures, 1, size, threads);
}

// Asks Python which rows to draw; it is given copies, since the network goes on in its own pictures.
doppelgan::Rows ask(const ChooseRows &choose, const float *const *pictures, int64_t count, int64_t size) {
    const nb::gil_scoped_acquire acquire;
    const size_t side = static_cast<size_t>(size), values = 3 * side * side;
    std::vector<Coarse> coarse;
    for (int64_t n = 0; n < count; ++n) {
        const float *from = pictures[pictures[n] == nullptr ? 0 : n];
        float *copy = new float[values];
        const nb::capsule owner(copy, [](void *p) noexcept { delete[] static_cast<float *>(p); });
        std::copy_n(from, values, copy);
        coarse.push_back(Coarse(copy, {3, side, side}, owner));
    }
    const auto [first, end] = nb::cast<std::pair<int64_t, int64_t>>(choose(coarse));
    if (first < 0 || first > end || end > size)
        throw nb::value_error(("rows: expected 0 <= first <= end <= " + std::to_string(size) + ", got " +
                               std::to_string(first) + " and " + std::to_string(end))
                                  .c_str());
    return {first, end};
}

void run_together(doppelgan::Synthesis &synthesis, const std::vector<Codes> &codes,
                  const std::vector<Picture> &pictures, int threads, const std::optional<ChooseRows> &rows) {
    const size_t count = codes.size();
    if (count != pictures.size() || count < 1 || count > doppelgan::MOST_PICTURES)
        throw nb::value_error("expected one to three codes, and a picture for each");
    const float *all_codes[doppelgan::MOST_PICTURES];
    float *all_pictures[doppelgan::MOST_PICTURES];
    for (size_t n = 0; n < count; ++n) {
        check(synthesis, codes[n], pictures[n]);
        all_codes[n] = codes[n].data(), all_pictures[n] = pictures[n].data();
        if (pictures[n].shape(1) != pictures[0].shape(1))
            throw nb::value_error("expected pictures of one size");
        for (size_t other = 0; other < n; ++other)
            if (all_pictures[n] == all_pictures[other])
                throw nb::value_error("expected a picture for each of the codes, got one twice");
    }
    const int64_t size = static_cast<int64_t>(pictures[0].shape(1));
    nb::gil_scoped_release release;
    const auto total = static_cast<int64_t>(count);
    if (!rows) return synthesis.run(all_codes, all_pictures, total, size, threads);
    synthesis.run(all_codes, all_pictures, total, size, threads,
                  [&](const float *const *coarse, int64_t side) { return ask(*rows, coarse, total, side); });
}

}  // namespace

void bind_synthesis(nb::module_ &m) {
    nb::class_<doppelgan::Synthesis>(m, "Synthesis")
        .def(nb::new_(&build), nb::arg("w_dim"), nb::arg("rows"), nb::arg("constant").noconvert(),
             nb::arg("convolutions"), nb::arg("rgbs"), nb::arg("precision") = "float32")
        .def("run", &run, nb::arg("codes").noconvert(), nb::arg("picture").noconvert(),
             nb::arg("threads") = 1)
        .def("run_together", &run_together, nb::arg("codes").noconvert(), nb::arg("pictures").noconvert(),
             nb::arg("threads") = 1, nb::arg("rows") = nb::none())
        .def_prop_ro("size", &doppelgan::Synthesis::size)
        .def_prop_ro("bytes", &doppelgan::Synthesis::bytes);
#if defined(__x86_64__)
    doppelgan::wide_products = __builtin_cpu_supports("avx512f");
#endif
    // Tests compare both ways; returns the one in use, which is the narrow one where there is no other.
    m.def("_use_avx512", [](bool wanted) {
#if defined(__x86_64__)
        doppelgan::wide_products = wanted && __builtin_cpu_supports("avx512f");
#endif
        (void)wanted;
        return doppelgan::wide_products;
    });
    m.def("networks_available", [] {
#if defined(__x86_64__)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
        return true;
#endif
    });
}
