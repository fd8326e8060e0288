#include "synthesis.h"
#include "threads.h"

#include <algorithm>
#include <cmath>

namespace doppelgan {
namespace {

constexpr int64_t WINOGRAD_FROM = 16;  // pixels; smaller maps have too few tiles to share the larger weights
constexpr int64_t UP_WINOGRAD_FROM = 16;  // pixels, before they are doubled
constexpr int64_t UP_PANELS_UNTIL =
    64;  // pixels; up-sampling Winograd layers of larger maps are divided into bands
constexpr int64_t UP_TOGETHER_UNTIL =
    32;  // pixels; up-sampling Winograd layers of larger maps take one map after the other
constexpr int64_t TILES_AT_ONCE = 48;  // most tiles that share a pass over the weights
constexpr int64_t FEW_TILES = 24;     // the same where weights are few: what a part needs then fits the cache
constexpr int64_t BANDS_FROM = 32;    // pixels; up-sampling of larger maps is divided into bands of rows
constexpr int64_t ROWS_AT_ONCE = 64;  // most rows in such a band
constexpr size_t LARGE_MAP = size_t{24} << 20;  // bytes
constexpr int64_t LEAST_COARSE = 64;  // pixels; coarser pictures differ from the finished one in tone as well
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

// As many values, if there are not yet. New ones are zero.
template <typename Vector>
auto *grown(Vector &values, size_t count) {
    if (values.size() < count) values.resize(count);
    return values.data();
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
        Affine a{style.row, channels, {}, {}};
        a.weight.assign(static_cast<size_t>(channels * padded(w_dim)), 0.0f);
        for (int64_t c = 0; c < channels; ++c)
            std::copy_n(style.weight + c * w_dim, w_dim, a.weight.begin() + c * padded(w_dim));
        a.bias = copy(style.bias, channels, channels);
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

    layers_.resize(layers.size());
    int64_t size = 4;
    for (size_t n = 0; n < layers.size(); ++n) {
        const StyledLayer &from = layers[n];
        Layer &layer = layers_[n];
        Convolution &c = layer.common;
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
        std::copy_n(from.fir_down, 4, rgb.fir_down);
        std::copy_n(from.fir_across, 4, rgb.fir_across);
    }

    // Inputs of integer layers are rounded anyway: their maps are kept in bfloat16. No vector of a layer may be
    // resized below this line, since kernels are given pointers into them.
    for (size_t n = 0; n < layers_.size(); ++n) {
        Layer &layer = layers_[n];
        const Kind next = n + 1 < layers_.size() ? layers_[n + 1].kind : Kind::direct;
        layer.halves =
            arithmetic == Arithmetic::int16 && (next == Kind::winograd || next == Kind::up_winograd);
        Convolution &c = layer.common;
        c.weights = layer.weights.view();
        c.bias = layer.bias.data(), c.noise = layer.noise.data();
        c.rgb_bias = n % 2 == 0 ? rgbs_[n / 2].bias.data() : nullptr;
        c.rgb_clamp = n % 2 == 0 ? rgbs[n / 2].clamp : 0.0f;
    }

    for (Lane &lane : lanes_) {
        lane.layers.resize(layers_.size());
        lane.rgbs.resize(rgbs_.size());
        for (size_t n = 0; n < layers_.size(); ++n) {
            const Convolution &c = layers_[n].common;
            lane.layers[n].style.assign(static_cast<size_t>(c.inputs), 0.0f);
            lane.layers[n].squares.assign(static_cast<size_t>(c.inputs), 0.0f);
            lane.layers[n].demod.assign(static_cast<size_t>(c.outputs), 0.0f);
        }
        for (size_t level = 0; level < rgbs_.size(); ++level) {
            const size_t channels = static_cast<size_t>(padded(rgbs[level].inputs));
            lane.rgbs[level].style.assign(channels, 0.0f);
            lane.rgbs[level].scaled.assign(3 * channels, 0.0f);
        }
        lane.start = constant_;
    }
}

size_t Synthesis::bytes() const {
    size_t floats = constant_.size(), bytes = 0;
    for (const Layer &layer : layers_) {
        bytes += layer.weights.bytes();
        floats += layer.style.weight.size() + layer.demod_weight.size() + layer.noise.size();
    }
    for (const Rgb &rgb : rgbs_) floats += rgb.style.weight.size() + rgb.weight.size();
    for (const Lane &lane : lanes_) {
        floats += lane.start.size();
        for (const Lane::LayerState &state : lane.layers)
            floats += state.map.size(), bytes += state.halves.size() * sizeof(uint16_t);
        for (const Lane::RgbState &state : lane.rgbs) floats += state.picture.size();
    }
    return floats * sizeof(float) + bytes;
}

Map Synthesis::map_of(size_t lane, size_t n) {
    const Convolution &c = layers_[n].common;
    const size_t count = map_values(c.size, c.outputs);
    Lane::LayerState &state = lanes_[lane].layers[n];
    if (layers_[n].halves) return {nullptr, grown(state.halves, count), count * sizeof(uint16_t) >= LARGE_MAP};
    return {grown(state.map, count), nullptr, count * sizeof(float) >= LARGE_MAP};
}

float *Synthesis::picture_of(size_t lane, size_t level) {
    return grown(lanes_[lane].rgbs[level].picture, size_t{3} * (size_t{16} << 2 * level));
}

// Up to the first row of codes that differs, the other pictures are the first one: they have no layers of their
// own. The layer before, and RGB layers whose rows differ, are convolved once and finished for all.
struct Synthesis::Plan {
    struct Step {
        Convolution each[MOST_PICTURES];
        Pictures pictures() const { return {each, count, maps, rows.first, rows.end}; }
        int64_t count, maps;
        Rows rows;
    };
    struct Color {
        float *pictures[MOST_PICTURES];      // nullptr: as the first
        const float *before[MOST_PICTURES];  // at half the size
    };
    struct AffineOf {
        size_t lane, number;  // of a convolution; from `steps.size()` on, of an RGB layer
    };
    std::vector<Step> steps;
    std::vector<Color> colors;
    std::vector<AffineOf> styles;  // to be computed
    std::vector<float> codes[MOST_PICTURES];
    int64_t count;  // of pictures
    bool alike;  // all pictures, to the last pixel

    // Of the last resolution only `rows`, and of those before it, down to `level`, what these need.
    void narrow(Rows rows, size_t level) {
        const auto whole_tiles = [](Rows wanted, int64_t size) {
            const int64_t first = std::max<int64_t>(wanted.first, 0), end = std::min(wanted.end, size);
            return first < end ? Rows{first / TILE * TILE, (end + TILE - 1) / TILE * TILE} : Rows{0, 0};
        };
        for (size_t n = steps.size() - 1; n > 2 * level; n -= 2) {
            Step &plain = steps[n], &up = steps[n - 1];
            plain.rows = whole_tiles(rows, plain.each[0].size);
            // A 3x3 convolution sees a row beyond its own.
            const Rows doubled = {plain.rows.first - 1, plain.rows.end + 1};
            const int64_t before = up.each[0].in_size;
            up.rows = plain.rows.end == 0 ? Rows{0, 0}
                                          : whole_tiles({doubled.first / 2, (doubled.end + 1) / 2}, before);
            // The FIR sees one row more of x; whole tiles have it at either end.
            rows = up.rows;
        }
    }
};

Synthesis::Plan Synthesis::plan(const float *const *codes, float *const *pictures, int64_t count,
                                int64_t size) {
    Plan plan;
    plan.count = count;
    size_t levels = 1;
    while (int64_t{4} << (levels - 1) < size) ++levels;
    const int64_t width = padded(w_dim_);
    std::vector<bool> differs(static_cast<size_t>(rows_), false);
    for (int64_t n = 0; n < count; ++n) {
        plan.codes[n].assign(static_cast<size_t>(rows_ * width), 0.0f);
        for (int64_t row = 0; row < rows_; ++row) {
            const float *from = codes[n] + row * w_dim_;
            std::copy_n(from, w_dim_, plan.codes[n].begin() + row * width);
            if (!std::equal(from, from + w_dim_, codes[0] + row * w_dim_))
                differs[static_cast<size_t>(row)] = true;
        }
    }
    const auto row_differs = [&](const Affine &style) { return differs[static_cast<size_t>(style.row)]; };
    const auto lane_of = [&](size_t picture, const Affine &style) { return row_differs(style) ? picture : 0; };

    plan.steps.resize(2 * levels - 1);
    plan.colors.resize(levels);
    bool maps_differ = false, colors_differ = false;
    Map before[MOST_PICTURES];
    for (size_t p = 0; p < MOST_PICTURES; ++p) before[p] = {lanes_[p].start.data(), nullptr, false};
    for (size_t n = 0; n < plan.steps.size(); ++n) {
        const Layer &layer = layers_[n];
        Plan::Step &step = plan.steps[n];
        const bool last = n + 1 == plan.steps.size(), colored = n % 2 == 0;
        const size_t level = n / 2;
        maps_differ = maps_differ || row_differs(layer.style);
        const bool next_differ = !last && (maps_differ || row_differs(layers_[n + 1].style));
        if (colored) colors_differ = colors_differ || maps_differ || row_differs(rgbs_[level].style);
        step.maps = maps_differ ? count : 1;
        step.count = next_differ || (colored && colors_differ) ? count : 1;
        for (size_t p = 0; p < static_cast<size_t>(step.count); ++p) {
            Convolution &c = step.each[p];
            c = layer.common;
            step.rows = {0, n % 2 == 1 ? c.in_size : c.size};
            const Map &x = before[maps_differ ? p : 0];
            c.x = {x.floats, x.halves};
            c.y = last || (p > 0 && !next_differ) ? Map{} : map_of(p, n);
            c.demod = lanes_[lane_of(p, layer.style)].layers[n].demod.data();
            c.style = c.y ? lanes_[lane_of(p, layers_[n + 1].style)].layers[n + 1].style.data() : nullptr;
            c.rgb_weights = nullptr, c.rgb = nullptr;
            if (!colored || (p > 0 && !colors_differ)) continue;
            c.rgb_weights = lanes_[lane_of(p, rgbs_[level].style)].rgbs[level].scaled.data();
            c.rgb = last ? pictures[p] : picture_of(p, level);
        }
        for (size_t p = 0; p < MOST_PICTURES; ++p) {
            if (!last && p < static_cast<size_t>(step.count)) before[p] = step.each[p].y;
            if (!colored) continue;
            Plan::Color &color = plan.colors[level];
            color.pictures[p] = p < static_cast<size_t>(step.count) ? step.each[p].rgb : nullptr;
            color.before[p] = level == 0 ? nullptr : plan.colors[level - 1].pictures[p];
            if (level > 0 && color.before[p] == nullptr) color.before[p] = plan.colors[level - 1].pictures[0];
        }
    }
    for (size_t p = 0; p < static_cast<size_t>(count); ++p) {
        for (size_t n = 0; n < plan.steps.size(); ++n)
            if (lane_of(p, layers_[n].style) == p) plan.styles.push_back({p, n});
        for (size_t level = 0; level < levels; ++level)
            if (lane_of(p, rgbs_[level].style) == p) plan.styles.push_back({p, plan.steps.size() + level});
    }
    plan.alike = count > 1 && !colors_differ;
    return plan;
}

Synthesis::Division Synthesis::division(const Layer &layer, const Pictures &pictures, int64_t threads) const {
    const Convolution &c = layer.common;
    const int64_t maps = pictures.maps, height = pictures.rows();
    if (height == 0) return {0, 0, 0, 0};
    switch (layer.kind) {
        case Kind::direct: {
            const int64_t items = std::min(threads, maps * c.size);
            return {1, items, 1, direct_scratch(c, parts(maps * c.size, items))};
        }
        case Kind::winograd: {
            const int64_t tiles = maps * (height / TILE) * (c.size / TILE);
            const int64_t items =
                parts(parts(tiles, c.inputs <= 64 ? FEW_TILES : TILES_AT_ONCE), threads) * threads;
            return {1, items, 1, winograd_scratch(c, parts(tiles, items))};
        }
        case Kind::up_winograd: {
            // A band computes most of a row of tiles twice; small maps are divided by channels.
            const int64_t panels =
                c.in_size <= UP_PANELS_UNTIL && c.outputs % (threads * PANEL) == 0 ? threads : 1;
            const int64_t rows = height / TILE, groups = c.in_size <= UP_TOGETHER_UNTIL ? 1 : maps;
            const int64_t bands =
                panels > 1 ? 1 : std::min(rows, parts(height, ROWS_AT_ONCE * threads) * threads);
            return {groups, bands, panels,
                    up_winograd_scratch(c, maps / groups, parts(rows, bands) * TILE, c.outputs / panels)};
        }
        case Kind::up: break;
    }
    // A band of rows repeats a row and a half of its neighbor, so small maps are divided by channels.
    // Several maps go through two panels of weights, which the cache then holds.
    const int64_t all = parts(c.outputs, 2 * PANEL);
    const int64_t panels = c.in_size >= BANDS_FROM ? 1 : maps > 1 ? all : std::min(threads, all);
    const int64_t bands =
        c.in_size >= BANDS_FROM ? std::min(height, parts(height, ROWS_AT_ONCE * threads) * threads) : 1;
    return {1, bands, panels, up_scratch(c, std::min(c.outputs, parts(c.outputs, panels * PANEL) * PANEL))};
}

void Synthesis::compute(const Layer &layer, const Pictures &all, const Division &division, int64_t item,
                        float *scratch) const {
    const Convolution &c = layer.common;
    const int64_t panel = item % division.panels, band = item / division.panels % division.rows;
    const int64_t group = item / division.panels / division.rows;
    const Pictures pictures =
        division.groups == 1 ? all : Pictures{all.each + group, 1, 1, all.first_row, all.end_row};
    const auto from = [&](int64_t rows) { return rows * band / division.rows; };
    const auto until = [&](int64_t rows) { return rows * (band + 1) / division.rows; };
    switch (layer.kind) {
        case Kind::direct:
            convolve_direct(pictures, from(pictures.maps * c.size), until(pictures.maps * c.size), scratch);
            break;
        case Kind::winograd: {
            const int64_t tiles = pictures.maps * (pictures.rows() / TILE) * (c.size / TILE);
            convolve_winograd(pictures, from(tiles), until(tiles), scratch);
            break;
        }
        case Kind::up_winograd: {
            const int64_t rows = all.rows() / TILE, width = c.outputs / division.panels, first = panel * width;
            convolve_up_winograd(pictures,
                                 {all.first_row + from(rows) * TILE, all.first_row + until(rows) * TILE, first,
                                  first + width},
                                 scratch);
            break;
        }
        case Kind::up: {
            const int64_t width = parts(c.outputs, division.panels * PANEL) * PANEL, first = panel * width;
            if (first < c.outputs)
                convolve_up(pictures,
                            {all.first_row + from(all.rows()), all.first_row + until(all.rows()), first,
                             std::min(first + width, c.outputs)},
                            scratch);
        }
    }
}

void Synthesis::compute_style(const Plan &plan, int64_t item) {
    const auto [lane, n] = plan.styles[static_cast<size_t>(item)];
    const bool color = n >= plan.steps.size();
    const size_t level = n - plan.steps.size();
    const Affine &style = color ? rgbs_[level].style : layers_[n].style;
    std::vector<float> &value = color ? lanes_[lane].rgbs[level].style : lanes_[lane].layers[n].style;
    const int64_t width = padded(w_dim_);
    for (int64_t c = 0; c < style.channels; ++c)
        value[static_cast<size_t>(c)] =
            style.bias[static_cast<size_t>(c)] +
            dot(style.weight.data() + c * width, plan.codes[lane].data() + style.row * width, width);
}

// What follows from the styles: demodulation, the constant's map, the weights of the RGB layers.
void Synthesis::apply_style(const Plan &plan, int64_t item) {
    const auto [lane, n] = plan.styles[static_cast<size_t>(item)];
    if (n < plan.steps.size()) {
        const Layer &layer = layers_[n];
        Lane::LayerState &state = lanes_[lane].layers[n];
        const std::vector<float> &style = state.style;
        const int64_t inputs = layer.common.inputs;
        for (size_t i = 0; i < style.size(); ++i) state.squares[i] = style[i] * style[i];
        for (int64_t o = 0; o < layer.outputs; ++o)
            state.demod[static_cast<size_t>(o)] =
                1.0f / std::sqrt(layer.eps[static_cast<size_t>(o)] +
                                 dot(layer.demod_weight.data() + o * inputs, state.squares.data(), inputs));
        std::vector<float> &start = lanes_[lane].start;
        if (n == 0)
            for (size_t i = 0; i < start.size(); ++i) start[i] = constant_[i] * style[i % style.size()];
        return;
    }
    const size_t level = n - plan.steps.size();
    const Rgb &rgb = rgbs_[level];
    Lane::RgbState &state = lanes_[lane].rgbs[level];
    const size_t channels = static_cast<size_t>(rgb.style.channels), stride = state.style.size();
    for (size_t color = 0; color < 3; ++color)
        for (size_t c = 0; c < channels; ++c)
            state.scaled[color * stride + c] = rgb.weight[color * channels + c] * state.style[c];
}

void Synthesis::work(Team &team, const Plan &plan, size_t first_step, size_t end_step, float *scratch) {
    const int64_t styles = static_cast<int64_t>(plan.styles.size());
    if (first_step == 0) {
        team.pass(styles, [&](int64_t item) { compute_style(plan, item); });
        team.pass(styles, [&](int64_t item) { apply_style(plan, item); });
    }
    for (size_t n = first_step; n < end_step; ++n) {
        const Layer &layer = layers_[n];
        const Pictures pictures = plan.steps[n].pictures();
        const Division divided = division(layer, pictures, team.size());
        // While a map is doubled, so are the RGB pictures.
        const int64_t size = layer.common.size;
        const size_t level = (n + 1) / 2;
        const int64_t strips = layer.common.in_size < size ? parts(size, RGB_ROWS) : 0;
        const int64_t doubled = strips == 0 ? 0 : plan.colors[level].pictures[1] != nullptr ? plan.count : 1;
        team.pass(divided.items() + doubled * strips, [&](int64_t item) {
            if (item < divided.items()) return compute(layer, pictures, divided, item, scratch);
            const Rgb &rgb = rgbs_[level];
            const Plan::Color &color = plan.colors[level];
            const int64_t picture = (item - divided.items()) / strips;
            const int64_t first = (item - divided.items()) % strips * RGB_ROWS;
            upsample_rgb(color.before[picture], size / 2, rgb.fir_down, rgb.fir_across,
                         color.pictures[picture], first, std::min(first + RGB_ROWS, size), scratch);
        });
    }
}

void Synthesis::draw(const Plan &plan, size_t first_step, size_t end_step, int threads) {
    size_t floats = static_cast<size_t>(size_ + 2);
    for (size_t n = first_step; n < end_step; ++n)
        floats = std::max(
            floats, static_cast<size_t>(division(layers_[n], plan.steps[n].pictures(), threads).scratch));
    scratch_.resize(static_cast<size_t>(threads));
    for (Large<float> &scratch : scratch_)
        if (scratch.size() < floats) scratch.resize(floats);
    as_team(threads, [&](Team &team, int member) {
        work(team, plan, first_step, end_step, scratch_[static_cast<size_t>(member)].data());
    });
}

void Synthesis::run(const float *const *codes, float *const *pictures, int64_t count, int64_t size,
                    int threads, const ChooseRows &choose) {
    threads = std::max(1, threads);
    Plan plan = this->plan(codes, pictures, count, size);
    for (float *picture : plan.colors[0].pictures)
        if (picture != nullptr) std::fill_n(picture, 3 * 16, 0.0f);

    size_t first_step = 0;
    const int64_t coarse = std::max(size / 4, LEAST_COARSE), ratio = size / coarse;
    if (choose && ratio > 1) {
        const size_t level = plan.colors.size() - (ratio == 4 ? 3 : 2);
        first_step = 2 * level + 1;
        draw(plan, 0, first_step, threads);
        const Rows rows = choose(plan.colors[level].pictures, coarse);
        plan.narrow({ratio * rows.first, ratio * rows.end}, level);
    }
    draw(plan, first_step, plan.steps.size(), threads);
    for (int64_t n = 1; plan.alike && n < count; ++n) std::copy_n(pictures[0], 3 * size * size, pictures[n]);
}

}  // namespace doppelgan
