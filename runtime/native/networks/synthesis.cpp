#include "synthesis.h"
#include "together.h"

#include <algorithm>
#include <cmath>

namespace doppelgan {
namespace {

constexpr int64_t WINOGRAD_FROM = 16;  // pixels; smaller maps have too few tiles to share the larger weights
constexpr int64_t UP_WINOGRAD_FROM = 16;  // pixels, before they are doubled
constexpr int64_t UP_PANELS_UNTIL =
    64;  // pixels; up-sampling Winograd layers of larger maps are divided into bands
constexpr int64_t TILES_AT_ONCE = 48;  // most tiles that share a pass over the weights
constexpr int64_t FEW_TILES = 24;     // the same where weights are few: what a part needs then fits the cache
constexpr int64_t BANDS_FROM = 32;    // pixels; up-sampling of larger maps is divided into bands of rows
constexpr int64_t ROWS_AT_ONCE = 64;  // most rows in such a band
constexpr size_t LARGE_MAP = size_t{24} << 20;  // bytes
constexpr int64_t RGB_ROWS = 32;                // rows of the RGB picture that a thread doubles at once

// The matrices' values for one transposed 3x3 kernel, F(4, 2). An even pixel sees tap 2 of the pixel before it and tap 0 of its
// own; an odd one sees tap 1.
void up_into_winograd(const double kernel[3][3], double *values) {
    const auto evens = [](double before, double own, double positions[5]) {
        const double taps[2] = {before, own};
        two_into_winograd(taps, positions);
    };
    double across[3][5], line[5];
    for (int y = 0; y < 3; ++y) evens(kernel[y][2], kernel[y][0], across[y]);
    for (int q = 0; q < 5; ++q) {
        evens(across[2][q], across[0][q], line);
        for (int p = 0; p < 5; ++p) values[5 * p + q] = line[p];
        values[30 + q] = across[1][q];
    }
    evens(kernel[2][1], kernel[0][1], line);
    for (int p = 0; p < 5; ++p) values[25 + p] = line[p];
    values[35] = kernel[1][1];
}

Weights pack(const StyledLayer &layer, bool winograd, Arithmetic arithmetic) {
    const auto kernel_of = [&](int64_t o, int64_t i) {
        return layer.weight + (layer.up ? i * layer.outputs + o : o * layer.inputs + i) * TAPS;
    };
    if (!winograd)
        return pack_taps(TAPS, layer.inputs, layer.outputs, [&](int64_t o, int64_t i, double *values) {
            const float *kernel = kernel_of(o, i);
            for (int t = 0; t < TAPS; ++t) values[t] = static_cast<double>(kernel[layer.up ? UP_TAPS[t] : t]);
        });
    const int64_t matrices = layer.up ? UP_POSITIONS : POSITIONS;
    return pack_matrices(matrices, layer.inputs, layer.outputs, arithmetic,
                         [&](int64_t o, int64_t i, double *values) {
                             double kernel[3][3];
                             for (int t = 0; t < TAPS; ++t)
                                 kernel[t / 3][t % 3] = static_cast<double>(kernel_of(o, i)[t]);
                             layer.up ? up_into_winograd(kernel, values) : into_winograd(kernel, values);
                         });
}

std::vector<float> copy(const float *from, int64_t count, int64_t padded_count) {
    std::vector<float> to(static_cast<size_t>(padded_count), 0.0f);
    std::copy_n(from, count, to.begin());
    return to;
}

size_t map_values(int64_t size, int64_t channels) {
    return static_cast<size_t>((size + 2) * (size + 2) * channels);
}

int64_t parts(int64_t work, int64_t most) { return (work + most - 1) / most; }

// Whether Winograd saves more products of an up-sampling convolution than its transforms cost.
bool worth(const Convolution &c) { return c.inputs * c.outputs >= 16 * (c.inputs + c.outputs); }

}  // namespace

Synthesis::Synthesis(int64_t w_dim, int64_t rows, const float *constant,
                     const std::vector<StyledLayer> &layers, const std::vector<RgbLayer> &rgbs,
                     Arithmetic arithmetic)
    : w_dim_(w_dim), rows_(rows), size_(int64_t{4} << (rgbs.size() - 1)) {
    const auto affine = [&](const Style &style, int64_t channels) {
        Affine a{style.row, channels, {}, {}, {}};
        a.weight.assign(static_cast<size_t>(channels * padded(w_dim)), 0.0f);
        for (int64_t c = 0; c < channels; ++c)
            std::copy_n(style.weight + c * w_dim, w_dim, a.weight.begin() + c * padded(w_dim));
        a.bias = copy(style.bias, channels, channels);
        a.value.assign(static_cast<size_t>(padded(channels)), 0.0f);
        return a;
    };

    // The constant as a map; it is multiplied by the first style when the codes are known.
    const int64_t first = padded(layers[0].inputs);
    constant_.assign(map_values(4, first), 0.0f);
    for (int64_t c = 0; c < layers[0].inputs; ++c)
        for (int64_t y = 0; y < 4; ++y)
            for (int64_t x = 0; x < 4; ++x)
                constant_[static_cast<size_t>(((y + 1) * 6 + x + 1) * first + c)] =
                    constant[(c * 4 + y) * 4 + x];
    start_ = constant_;

    layers_.resize(layers.size());
    int64_t size = 4;
    for (size_t n = 0; n < layers.size(); ++n) {
        const StyledLayer &from = layers[n];
        Layer &layer = layers_[n];
        Convolution &c = layer.convolution;
        c.in_size = size;
        if (from.up) size *= 2;
        c.size = size;
        c.inputs = padded(from.inputs), c.outputs = padded(from.outputs);
        layer.kind = from.up ? (c.in_size >= UP_WINOGRAD_FROM && worth(c) ? Kind::up_winograd : Kind::up)
                             : (size >= WINOGRAD_FROM ? Kind::winograd : Kind::direct);
        layer.outputs = from.outputs;
        layer.style = affine(from.style, from.inputs);
        layer.weights =
            pack(from, layer.kind == Kind::winograd || layer.kind == Kind::up_winograd, arithmetic);
        layer.demod_weight.assign(static_cast<size_t>(from.outputs * c.inputs), 0.0f);
        for (int64_t o = 0; o < from.outputs; ++o)
            std::copy_n(from.demod + o * from.inputs, from.inputs, layer.demod_weight.begin() + o * c.inputs);
        layer.eps = copy(from.eps, from.outputs, from.outputs);
        layer.demod.assign(static_cast<size_t>(c.outputs), 0.0f);
        layer.squares.assign(static_cast<size_t>(c.inputs), 0.0f);
        layer.bias = copy(from.bias, from.outputs, c.outputs);
        layer.noise = copy(from.noise, size * size, size * size);
        std::copy_n(from.fir_down, 4, c.fir_down);
        std::copy_n(from.fir_across, 4, c.fir_across);
        c.clamp = from.clamp;
    }

    rgbs_.resize(rgbs.size());
    for (size_t level = 0; level < rgbs.size(); ++level) {
        const RgbLayer &from = rgbs[level];
        Rgb &rgb = rgbs_[level];
        rgb.style = affine(from.style, from.inputs);
        rgb.weight = copy(from.weight, 3 * from.inputs, 3 * from.inputs);
        rgb.bias = copy(from.bias, 3, 3);
        rgb.scaled.assign(static_cast<size_t>(3 * padded(from.inputs)), 0.0f);
        if (level + 1 < rgbs.size()) rgb.picture.assign(static_cast<size_t>(3 * (16 << 2 * level)), 0.0f);
        std::copy_n(from.fir_down, 4, rgb.fir_down);
        std::copy_n(from.fir_across, 4, rgb.fir_across);
    }

    // What integers are made of need not be more exact than they are.
    for (size_t n = 0; n + 1 < layers_.size(); ++n) {
        Layer &layer = layers_[n];
        const Kind next = layers_[n + 1].kind;
        const size_t count = map_values(layer.convolution.size, layer.convolution.outputs);
        if (arithmetic == Arithmetic::int16 && (next == Kind::winograd || next == Kind::up_winograd))
            layer.halves.assign(count, 0);
        else
            layer.map.assign(count, 0.0f);
    }

    // The vectors stay where they are from here on.
    ones_.assign(static_cast<size_t>(padded(layers.back().outputs)), 1.0f);
    for (size_t n = 0; n < layers_.size(); ++n) {
        Layer &layer = layers_[n];
        Convolution &c = layer.convolution;
        const bool last = n + 1 == layers_.size();
        c.weights = layer.weights.view();
        c.y = {};
        if (!layer.map.empty()) c.y.floats = layer.map.data();
        if (!layer.halves.empty()) c.y.halves = layer.halves.data();
        c.y.large = layer.map_bytes() >= LARGE_MAP;
        const Map before = n == 0 ? Map{start_.data(), nullptr, false} : layers_[n - 1].convolution.y;
        c.x = {before.floats, before.halves};
        c.demod = layer.demod.data(), c.bias = layer.bias.data(), c.noise = layer.noise.data();
        c.style = last ? ones_.data() : layers_[n + 1].style.value.data();
        const bool colored = n % 2 == 0;
        c.rgb_weights = colored ? rgbs_[n / 2].scaled.data() : nullptr;
        c.rgb_bias = colored ? rgbs_[n / 2].bias.data() : nullptr;
        c.rgb_clamp = colored ? rgbs[n / 2].clamp : 0.0f;
        c.rgb = nullptr;  // known when the picture is
    }
}

size_t Synthesis::bytes() const {
    size_t floats = constant_.size() * 2, weights = 0;
    for (const Layer &layer : layers_) {
        weights += layer.weights.bytes() + layer.map_bytes();
        floats += layer.style.weight.size() + layer.demod_weight.size() + layer.noise.size();
    }
    for (const Rgb &rgb : rgbs_) floats += rgb.style.weight.size() + rgb.weight.size() + rgb.picture.size();
    return floats * sizeof(float) + weights;
}

Synthesis::Division Synthesis::division(const Layer &layer, int64_t threads) const {
    const Convolution &c = layer.convolution;
    switch (layer.kind) {
        case Kind::direct: return {std::min(threads, c.size), 1, direct_scratch(c)};
        case Kind::winograd: {
            const int64_t tiles = c.size / TILE * (c.size / TILE);
            const int64_t items =
                parts(parts(tiles, c.inputs <= 64 ? FEW_TILES : TILES_AT_ONCE), threads) * threads;
            return {items, 1, winograd_scratch(c, parts(tiles, items))};
        }
        case Kind::up_winograd: {
            // A band computes most of a row of tiles twice; small maps are divided by channels.
            const int64_t panels =
                c.in_size <= UP_PANELS_UNTIL && c.outputs % (threads * PANEL) == 0 ? threads : 1;
            const int64_t rows = c.in_size / TILE;
            const int64_t bands =
                panels > 1 ? 1 : std::min(rows, parts(c.in_size, ROWS_AT_ONCE * threads) * threads);
            return {bands, panels, up_winograd_scratch(c, parts(rows, bands) * TILE, c.outputs / panels)};
        }
        case Kind::up: break;
    }
    // A band of rows repeats a row and a half of its neighbor, so small maps are divided by channels.
    const int64_t panels = c.in_size >= BANDS_FROM ? 1 : std::min(threads, parts(c.outputs, PANEL));
    const int64_t bands = c.in_size >= BANDS_FROM ? parts(c.in_size, ROWS_AT_ONCE * threads) * threads : 1;
    return {bands, panels, up_scratch(c, std::min(c.outputs, parts(c.outputs, panels * PANEL) * PANEL))};
}

void Synthesis::compute(const Layer &layer, const Division &division, int64_t item, float *scratch) const {
    const Convolution &c = layer.convolution;
    const int64_t band = item / division.panels, panel = item % division.panels;
    const auto from = [&](int64_t rows) { return rows * band / division.rows; };
    const auto until = [&](int64_t rows) { return rows * (band + 1) / division.rows; };
    switch (layer.kind) {
        case Kind::direct: convolve_direct(c, from(c.size), until(c.size), scratch); break;
        case Kind::winograd: {
            const int64_t tiles = c.size / TILE * (c.size / TILE);
            convolve_winograd(c, from(tiles), until(tiles), scratch);
            break;
        }
        case Kind::up_winograd: {
            const int64_t rows = c.in_size / TILE, width = c.outputs / division.panels, first = panel * width;
            convolve_up_winograd(c, {from(rows) * TILE, until(rows) * TILE, first, first + width}, scratch);
            break;
        }
        case Kind::up: {
            const int64_t width = parts(c.outputs, division.panels * PANEL) * PANEL, first = panel * width;
            if (first < c.outputs)
                convolve_up(c, {from(c.in_size), until(c.in_size), first, std::min(first + width, c.outputs)},
                            scratch);
        }
    }
}

// Items: the convolutions, then the RGB layers.
void Synthesis::compute_style(int64_t item, const float *codes) {
    const size_t n = static_cast<size_t>(item);
    Affine &style = n < layers_.size() ? layers_[n].style : rgbs_[n - layers_.size()].style;
    const int64_t width = padded(w_dim_);
    for (int64_t c = 0; c < style.channels; ++c)
        style.value[static_cast<size_t>(c)] =
            style.bias[static_cast<size_t>(c)] +
            dot(style.weight.data() + c * width, codes + style.row * width, width);
}

// What follows from the styles: demodulation, the constant's map, the weights of the RGB layers.
void Synthesis::apply_style(int64_t item, float *picture) {
    const size_t n = static_cast<size_t>(item);
    if (n < layers_.size()) {
        Layer &layer = layers_[n];
        const std::vector<float> &style = layer.style.value;
        const int64_t inputs = layer.convolution.inputs;
        for (size_t i = 0; i < style.size(); ++i) layer.squares[i] = style[i] * style[i];
        for (int64_t o = 0; o < layer.outputs; ++o)
            layer.demod[static_cast<size_t>(o)] =
                1.0f / std::sqrt(layer.eps[static_cast<size_t>(o)] +
                                 dot(layer.demod_weight.data() + o * inputs, layer.squares.data(), inputs));
        if (n == 0)
            for (size_t i = 0; i < start_.size(); ++i) start_[i] = constant_[i] * style[i % style.size()];
        return;
    }
    const size_t level = n - layers_.size();
    Rgb &rgb = rgbs_[level];
    const size_t channels = static_cast<size_t>(rgb.style.channels), stride = rgb.style.value.size();
    for (size_t color = 0; color < 3; ++color)
        for (size_t c = 0; c < channels; ++c)
            rgb.scaled[color * stride + c] = rgb.weight[color * channels + c] * rgb.style.value[c];
    if (level == 0) std::fill_n(rgb_of(0, picture), 3 * 16, 0.0f);
}

void Synthesis::work(Team &team, float *scratch, const float *codes, float *picture) {
    const int64_t styles = static_cast<int64_t>(layers_.size() + rgbs_.size());
    team.pass(styles, [&](int64_t item) { compute_style(item, codes); });
    team.pass(styles, [&](int64_t item) { apply_style(item, picture); });
    for (size_t n = 0; n < layers_.size(); ++n) {
        const Layer &layer = layers_[n];
        const Division divided = division(layer, team.size());
        // While a map is doubled, so is the RGB picture.
        const int64_t size = layer.convolution.size, level = static_cast<int64_t>(n + 1) / 2;
        const int64_t rgb_items = layer.convolution.in_size < size ? parts(size, RGB_ROWS) : 0;
        team.pass(divided.items() + rgb_items, [&](int64_t item) {
            if (item < divided.items()) return compute(layer, divided, item, scratch);
            const Rgb &rgb = rgbs_[static_cast<size_t>(level)];
            const int64_t first = (item - divided.items()) * RGB_ROWS;
            upsample_rgb(rgb_of(static_cast<size_t>(level - 1), picture), size / 2, rgb.fir_down,
                         rgb.fir_across, rgb_of(static_cast<size_t>(level), picture), first,
                         std::min(first + RGB_ROWS, size), scratch);
        });
    }
}

void Synthesis::run(const float *codes, float *picture, int threads) {
    Team team(std::max(1, threads));
    const int64_t width = padded(w_dim_);
    std::vector<float> padded_codes(static_cast<size_t>(rows_ * width), 0.0f);
    for (int64_t row = 0; row < rows_; ++row)
        std::copy_n(codes + row * w_dim_, w_dim_, padded_codes.begin() + row * width);
    for (size_t n = 0; n < layers_.size(); n += 2) layers_[n].convolution.rgb = rgb_of(n / 2, picture);

    size_t floats = static_cast<size_t>(size_ + 2);
    for (const Layer &layer : layers_)
        floats = std::max(floats, static_cast<size_t>(division(layer, team.size()).scratch));
    scratch_.resize(static_cast<size_t>(team.size()));
    for (Large<float> &scratch : scratch_)
        if (scratch.size() < floats) scratch.resize(floats);

    together(
        team.size(),
        [&](int number) {
            work(team, scratch_[static_cast<size_t>(number)].data(), padded_codes.data(), picture);
        },
        [&](int) { team.leave(); });
}

}  // namespace doppelgan
