#include "synthesis.h"
#include "together.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <thread>

namespace doppelgan {
namespace {

constexpr int64_t WINOGRAD_FROM = 16;  // pixels; smaller maps have too few tiles to share the larger weights
constexpr int64_t TILES_AT_ONCE = 48;  // most tiles that share a pass over the weights
constexpr int64_t BANDS_FROM = 32;     // pixels; up-sampling of larger maps is divided into bands of rows
constexpr int64_t ROWS_AT_ONCE = 64;   // most rows in such a band
constexpr int SPINS = 2000;            // looks at the others before a waiting thread offers its processor
constexpr int64_t RGB_ROWS = 32;       // rows of the RGB picture that a thread doubles at once

// G of F(4x4, 3x3): a kernel of 3 -> 6 positions.
constexpr double TO_WINOGRAD[6][3] = {{1.0 / 4, 0, 0},
                                      {-1.0 / 6, -1.0 / 6, -1.0 / 6},
                                      {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                      {1.0 / 24, 1.0 / 12, 1.0 / 6},
                                      {1.0 / 24, -1.0 / 12, 1.0 / 6},
                                      {0, 0, 1}};

// Where output channel `o` of input channel `i` lies in packed weights: [panel][count][inputs][16 or 8], at
// `k` of `count`.
size_t packed_at(int64_t o, int64_t i, int64_t k, int64_t count, int64_t inputs, int64_t outputs) {
    const int64_t first = o / PANEL * PANEL, width = std::min(PANEL, outputs - first);
    return static_cast<size_t>(first * count * inputs + (k * inputs + i) * width + o - first);
}

std::vector<float> pack_taps(const StyledLayer &layer, int64_t inputs, int64_t outputs) {
    std::vector<float> packed(static_cast<size_t>(outputs * inputs * TAPS), 0.0f);
    for (int64_t o = 0; o < layer.outputs; ++o)
        for (int64_t i = 0; i < layer.inputs; ++i)
            for (int64_t t = 0; t < TAPS; ++t) {
                const int64_t from = layer.up ? (i * layer.outputs + o) * TAPS + UP_TAPS[t]
                                              : (o * layer.inputs + i) * TAPS + t;
                packed[packed_at(o, i, t, TAPS, inputs, outputs)] = layer.weight[from];
            }
    return packed;
}

std::vector<float> pack_winograd(const StyledLayer &layer, int64_t inputs, int64_t outputs) {
    const int64_t position_floats = inputs * outputs;
    std::vector<float> packed(static_cast<size_t>(POSITIONS * position_floats), 0.0f);
    for (int64_t o = 0; o < layer.outputs; ++o)
        for (int64_t i = 0; i < layer.inputs; ++i) {
            const float *kernel = layer.weight + (o * layer.inputs + i) * TAPS;
            double half[6][3];
            for (int p = 0; p < 6; ++p)
                for (int x = 0; x < 3; ++x)
                    half[p][x] = TO_WINOGRAD[p][0] * kernel[x] + TO_WINOGRAD[p][1] * kernel[3 + x] +
                                 TO_WINOGRAD[p][2] * kernel[6 + x];
            const size_t at = packed_at(o, i, 0, 1, inputs, outputs);
            for (int p = 0; p < 6; ++p)
                for (int q = 0; q < 6; ++q)
                    packed[static_cast<size_t>((6 * p + q) * position_floats) + at] =
                        static_cast<float>(half[p][0] * TO_WINOGRAD[q][0] + half[p][1] * TO_WINOGRAD[q][1] +
                                           half[p][2] * TO_WINOGRAD[q][2]);
        }
    return packed;
}

std::vector<float> copy(const float *from, int64_t count, int64_t padded_count) {
    std::vector<float> to(static_cast<size_t>(padded_count), 0.0f);
    std::copy_n(from, count, to.begin());
    return to;
}

size_t map_floats(int64_t size, int64_t channels) {
    return static_cast<size_t>((size + 2) * (size + 2) * channels);
}

int64_t parts(int64_t work, int64_t most) { return (work + most - 1) / most; }

}  // namespace

// Threads that go through the network together: each part of a pass is taken by one of them, and nobody
// begins the next pass before all parts of this one are done.
class Synthesis::Team {
  public:
    explicit Team(int size) : size_(size), members_(size) {}

    // For how many threads work is divided.
    int size() const { return size_; }

    // One member will not come; to be called while another has not begun.
    void leave() { members_.fetch_sub(1); }

    template <typename Function>
    void pass(int64_t items, const Function &function) {
        for (int64_t item; (item = next_.fetch_add(1, std::memory_order_relaxed)) < items;) function(item);
        wait();
    }

  private:
    void wait() {
        const int64_t pass = passes_.load(std::memory_order_acquire);
        if (waiting_.fetch_add(1, std::memory_order_acq_rel) + 1 == members_.load()) {
            waiting_.store(0, std::memory_order_relaxed);
            next_.store(0, std::memory_order_relaxed);
            passes_.fetch_add(1, std::memory_order_release);
            return;
        }
        // Parts take fractions of a millisecond: sleeping would cost more than it gives to others.
        for (int spins = 0; passes_.load(std::memory_order_acquire) == pass; ++spins)
            if (spins > SPINS) std::this_thread::yield();
    }

    const int size_;
    std::atomic<int> members_;
    std::atomic<int64_t> next_{0}, waiting_{0}, passes_{0};
};

Synthesis::Synthesis(int64_t w_dim, int64_t rows, const float *constant,
                     const std::vector<StyledLayer> &layers, const std::vector<RgbLayer> &rgbs)
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
    constant_.assign(map_floats(4, first), 0.0f);
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
        layer.kind = from.up ? Kind::up : size < WINOGRAD_FROM ? Kind::direct : Kind::winograd;
        layer.outputs = from.outputs;
        layer.style = affine(from.style, from.inputs);
        layer.weights = layer.kind == Kind::winograd ? pack_winograd(from, c.inputs, c.outputs)
                                                     : pack_taps(from, c.inputs, c.outputs);
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
        const bool last = n + 1 == layers.size();
        if (!last) layer.map.assign(map_floats(size, c.outputs), 0.0f);
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

    // The vectors stay where they are from here on.
    ones_.assign(static_cast<size_t>(padded(layers.back().outputs)), 1.0f);
    for (size_t n = 0; n < layers_.size(); ++n) {
        Layer &layer = layers_[n];
        Convolution &c = layer.convolution;
        const bool last = n + 1 == layers_.size();
        c.weights = layer.weights.data();
        c.x = n == 0 ? start_.data() : layers_[n - 1].map.data();
        c.y = last ? nullptr : layer.map.data();
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
    size_t floats = constant_.size() * 2;
    for (const Layer &layer : layers_)
        floats += layer.style.weight.size() + layer.weights.size() + layer.demod_weight.size() +
                  layer.noise.size() + layer.map.size();
    for (const Rgb &rgb : rgbs_) floats += rgb.style.weight.size() + rgb.weight.size() + rgb.picture.size();
    return floats * sizeof(float);
}

Synthesis::Division Synthesis::division(const Layer &layer, int64_t threads) const {
    const Convolution &c = layer.convolution;
    switch (layer.kind) {
        case Kind::direct: return {std::min(threads, c.size), 1, direct_scratch(c)};
        case Kind::winograd: {
            const int64_t tiles = c.size / TILE * (c.size / TILE);
            const int64_t items = parts(parts(tiles, TILES_AT_ONCE), threads) * threads;
            return {items, 1, winograd_scratch(c, parts(tiles, items))};
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
        const int64_t rgb_items = layer.kind == Kind::up ? parts(size, RGB_ROWS) : 0;
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
    for (std::vector<float> &scratch : scratch_)
        if (scratch.size() < floats) scratch.resize(floats);

    together(
        team.size(),
        [&](int number) {
            work(team, scratch_[static_cast<size_t>(number)].data(), padded_codes.data(), picture);
        },
        [&](int) { team.leave(); });
}

}  // namespace doppelgan
