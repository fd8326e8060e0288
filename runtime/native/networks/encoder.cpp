#include "encoder.h"

#include <algorithm>
#include <cmath>
#include <thread>

#include "encoder_weights.h"
#include "threads.h"

namespace doppelgan {
namespace {

constexpr int64_t WINOGRAD_FROM = 16;     // pixels of the result; smaller maps have too few tiles
constexpr int64_t SHARED_TILES = 64;      // most tiles of a layer that is divided by channels,
constexpr int64_t SHARED_PIXELS = 256;    // and most pixels, where a tile is one
constexpr int64_t CHANNELS_AT_ONCE = 32;  // in such a part, if there are enough
constexpr int64_t PARTS_PER_THREAD = 4;   // so that no thread waits long for the last part
constexpr int64_t TILES_PER_PART = 4;     // that a thread transforms at once
constexpr int64_t GATED_ROWS = 16;        // rows of a map in one part of an element-wise pass

int64_t parts(int64_t work, int64_t most) { return (work + most - 1) / most; }

// Most tiles that share a pass over the weights, where layers are divided into bands.
int64_t band(Method method) {
    switch (method) {
        case Method::winograd: return 48;
        case Method::halving: return 24;
        case Method::direct: return 96;
        case Method::picture: break;
    }
    return 192;
}

Method method_of(const EncoderStep &step, int64_t size) {
    if (step.source == PICTURE) return Method::picture;
    if (step.side == 3 && size >= WINOGRAD_FROM && size % CELL == 0)
        return step.stride == 1 ? Method::winograd : Method::halving;
    return Method::direct;
}

std::vector<float> copy(const float *from, int64_t count, int64_t padded_count) {
    std::vector<float> to(static_cast<size_t>(padded_count), 0.0f);
    std::copy_n(from, count, to.begin());
    return to;
}

// A matrix with its lines padded to whole vectors.
std::vector<float> copy_lines(const float *from, int64_t lines, int64_t width) {
    std::vector<float> to(static_cast<size_t>(lines * padded(width)), 0.0f);
    for (int64_t line = 0; line < lines; ++line)
        std::copy_n(from + line * width, width, to.begin() + line * padded(width));
    return to;
}

// For every step, the end of the group of steps that are computed together with it: convolutions of equal
// shape that follow each other and do not wait for each other.
std::vector<size_t> groups_of(const std::vector<EncoderStep> &steps, const std::vector<MapShape> &maps) {
    std::vector<size_t> group_end(steps.size());
    for (size_t n = 0; n < steps.size();) {
        const EncoderStep &first = steps[n];
        const auto size = [&](int map) { return maps[static_cast<size_t>(map)].size; };
        const auto joins = [&](const EncoderStep &step) {
            // Members may share what they read, so all of them must read it as it is.
            return step.kind == StepKind::convolution && step.source != PICTURE && step.scale == nullptr &&
                   step.side == first.side && step.stride == first.stride && step.inputs == first.inputs &&
                   step.outputs == first.outputs && size(step.source) == size(first.source);
        };
        size_t end = n + 1;
        const auto waits = [&](const EncoderStep &step) {
            for (size_t k = n; k < end; ++k)
                if (steps[k].target == step.source || steps[k].target == step.other) return true;
            return false;
        };
        if (first.source != PICTURE && joins(first))
            while (end < steps.size() && joins(steps[end]) && !waits(steps[end])) ++end;
        for (; n < end; ++n) group_end[n] = end;
    }
    return group_end;
}

// Which memory each map lies in, and the shapes of all memory. That of a map whose last reader is done serves
// a later one of the same shape: its border stays zero. What a group makes and reads must not share any.
std::vector<size_t> places_of(const std::vector<MapShape> &maps, const std::vector<EncoderStep> &steps,
                              const std::vector<CodeRow> &rows, const std::vector<size_t> &group_end,
                              std::vector<MapShape> &shapes) {
    std::vector<size_t> free_from_map(maps.size(), 0);  // the step from which its memory may be taken again
    const auto used = [&](int map, size_t until) {
        if (map >= 0)
            free_from_map[static_cast<size_t>(map)] =
                std::max(free_from_map[static_cast<size_t>(map)], until);
    };
    for (size_t n = 0; n < steps.size(); ++n)
        for (const int map : {steps[n].source, steps[n].target, steps[n].other}) used(map, group_end[n]);
    for (const CodeRow &row : rows) used(row.source, steps.size());

    std::vector<size_t> places(maps.size()), free_from;
    for (size_t n = 0, begin = 0; n < steps.size(); ++n) {
        if (n > 0 && group_end[n] != group_end[n - 1]) begin = n;
        const size_t map = static_cast<size_t>(steps[n].target);
        const int64_t channels = padded(maps[map].channels);
        size_t k = 0;
        while (k < shapes.size() &&
               (shapes[k].size != maps[map].size || shapes[k].channels != channels || free_from[k] > begin))
            ++k;
        if (k == shapes.size()) {
            shapes.push_back({maps[map].size, channels});
            free_from.push_back(0);
        }
        places[map] = k;
        free_from[k] = free_from_map[map];
    }
    return places;
}

}  // namespace

Encoder::Encoder(int64_t planes, int64_t size, int64_t w_dim, const std::vector<MapShape> &maps,
                 const std::vector<EncoderStep> &steps, const std::vector<CodeRow> &rows,
                 Arithmetic arithmetic)
    : planes_(planes), size_(size), w_dim_(w_dim) {
    const std::vector<size_t> group_end = groups_of(steps, maps);
    std::vector<MapShape> shapes;
    const std::vector<size_t> lies = places_of(maps, steps, rows, group_end, shapes);
    for (const MapShape &shape : shapes)
        memory_.emplace_back(static_cast<size_t>((shape.size + 2) * (shape.size + 2) * shape.channels), 0.0f);
    const auto at = [&](int map) { return memory_[lies[static_cast<size_t>(map)]].data(); };
    const auto size_of = [&](int map) { return maps[static_cast<size_t>(map)].size; };

    std::vector<size_t> maker(maps.size(), 0);  // the layer that computes a map
    std::vector<size_t> convolutions;           // the steps of the layers
    for (size_t n = 0; n < steps.size(); ++n) {
        const EncoderStep &from = steps[n];
        const size_t target = static_cast<size_t>(from.target);
        if (from.kind == StepKind::convolution) {
            Layer layer{};
            MapConvolution &c = layer.convolution;
            c.size = maps[target].size;
            c.in_size = from.source == PICTURE ? size : size_of(from.source);
            c.side = from.side, c.stride = from.stride, c.planes = planes;
            c.method = method_of(from, c.size);
            c.inputs =
                padded(c.method == Method::picture ? from.inputs * from.side * from.side : from.inputs);
            c.outputs = padded(from.outputs);
            if (c.method == Method::direct)
                for (int64_t t = 0; t < from.side * from.side; ++t)
                    if (meets(c, t / from.side) && meets(c, t % from.side))
                        c.taps[c.tap_count++] = static_cast<int>(t);
            convolutions.push_back(n);
            if (from.scale) layer.scale = copy(from.scale, from.inputs, c.inputs);
            layer.bias = border_bias(from, c.outputs);
            layer.slope = copy(from.slope, from.outputs, c.outputs);
            c.x = from.source == PICTURE ? nullptr : at(from.source);
            c.y = at(from.target);
            c.addend = from.other == NO_MAP ? nullptr : at(from.other);
            maker[target] = layers_.size();
            if (n == 0 || group_end[n] != group_end[n - 1])
                steps_.push_back({from.kind, layers_.size(), layers_.size()});
            layers_.push_back(std::move(layer));
            steps_.back().end = layers_.size();
        } else if (from.kind == StepKind::gate) {
            const int64_t channels = maps[target].channels;
            Gate gate{};
            gate.layer = maker[static_cast<size_t>(from.source)];
            layers_[gate.layer].measured = true;
            gate.squeezed = from.squeezed;
            gate.weight1 = copy_lines(from.gate1, from.squeezed, channels);
            gate.weight2 = copy_lines(from.gate2, channels, from.squeezed);
            gate.gated = {padded(channels), maps[target].size, size_of(from.other), from.stride,
                          at(from.source),  nullptr,           at(from.other),      at(from.target)};
            steps_.push_back({from.kind, gates_.size(), gates_.size() + 1});
            gates_.push_back(std::move(gate));
        } else {
            const MapShape &shape = maps[static_cast<size_t>(from.source)];
            steps_.push_back({from.kind, doublings_.size(), doublings_.size() + 1});
            doublings_.push_back({shape.size, padded(shape.channels), at(from.source), at(from.target)});
        }
    }
    for (const CodeRow &from : rows) {
        const MapShape &shape = maps[static_cast<size_t>(from.source)];
        rows_.push_back({from.base, shape.size, padded(shape.channels), at(from.source),
                         from.weight ? copy_lines(from.weight, w_dim, shape.channels) : std::vector<float>{},
                         copy(from.bias, w_dim, w_dim), std::vector<float>(static_cast<size_t>(w_dim))});
    }
    const int64_t layers = static_cast<int64_t>(layers_.size());
    const int processors = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    in_parts(layers, layers, processors, [&](int64_t first, int64_t end) {
        for (size_t n = static_cast<size_t>(first); n < static_cast<size_t>(end); ++n)
            layers_[n].weights = pack_convolution(steps[convolutions[n]], layers_[n].convolution, arithmetic);
    });
    // No vector may be resized below this line: raw pointers into them are stored.
    for (Layer &layer : layers_) {
        MapConvolution &c = layer.convolution;
        c.weights = layer.weights.view();
        c.scale = layer.scale.empty() ? nullptr : layer.scale.data();
        c.bias = layer.bias.data(), c.slope = layer.slope.data();
    }
}

size_t Encoder::bytes() const {
    size_t floats = factors_.size(), weights = 0;
    for (const Memory &map : memory_) floats += map.size();
    for (const Memory &scratch : scratch_) floats += scratch.size();
    for (const Layer &layer : layers_) weights += layer.weights.bytes() + layer.bias.size() * sizeof(float);
    for (const Row &row : rows_) floats += row.weight.size();
    return floats * sizeof(float) + weights;
}

Encoder::Division Encoder::division(const Layer &layer, int64_t members, int64_t threads) const {
    const MapConvolution &c = layer.convolution;
    const int64_t tiles = tile_count(c);
    const bool cells = c.method == Method::winograd || c.method == Method::halving;
    if (c.method != Method::picture && tiles <= (cells ? SHARED_TILES : SHARED_PIXELS)) {
        int64_t width = CHANNELS_AT_ONCE;
        while (width > PANEL && parts(c.outputs, width) * members < PARTS_PER_THREAD * threads) width /= 2;
        width = std::min(width, c.outputs);
        return {true, parts(c.outputs, width), width, tiles,
                std::max(transform_scratch(c), product_scratch(c, tiles, width))};
    }
    const int64_t bands = parts(parts(tiles, band(c.method)), threads) * threads, most = parts(tiles, bands);
    return {false, bands, c.outputs, most,
            factor_floats(c, most) + std::max(transform_scratch(c), product_scratch(c, most, c.outputs))};
}

// How often the layers up to `layer` change the map that they read; those that read one map lie side by side.
int64_t Encoder::maps_before(size_t first, size_t layer) const {
    int64_t changes = 0;
    for (size_t n = first + 1; n <= layer; ++n)
        changes += layers_[n].convolution.x != layers_[n - 1].convolution.x;
    return changes;
}

void Encoder::convolve(Team &team, const Step &step, float *scratch) {
    const int64_t members = static_cast<int64_t>(step.end - step.first);
    const Division divided = division(layers_[step.first], members, team.size());
    const int64_t tiles = tile_count(layers_[step.first].convolution);
    const auto sums_of = [&](const Layer &layer, int64_t part) {
        return layer.measured ? sums_.data() + layer.sums + part * layer.convolution.outputs : nullptr;
    };
    if (!divided.shared) {
        team.pass(divided.parts * members, [&](int64_t item) {
            const Layer &layer = layers_[step.first + static_cast<size_t>(item / divided.parts)];
            const MapConvolution &c = layer.convolution;
            const int64_t part = item % divided.parts;
            const int64_t first = tiles * part / divided.parts, end = tiles * (part + 1) / divided.parts;
            float *rest = scratch + factor_floats(c, divided.tiles), *sums = sums_of(layer, part);
            if (sums) std::fill_n(sums, c.outputs, 0.0f);
            transform_tiles(c, first, end, first, end - first, scratch, rest);
            multiply_tiles(c, first, end - first, scratch, 0, c.outputs, sums, rest);
        });
        return;
    }
    const int64_t floats = factor_floats(layers_[step.first].convolution, tiles);
    const auto memory_of = [&](int64_t member) {
        return factors_.data() + maps_before(step.first, step.first + static_cast<size_t>(member)) * floats;
    };
    const int64_t pieces = parts(tiles, TILES_PER_PART);
    team.pass(pieces * members, [&](int64_t item) {
        const int64_t member = item / pieces, piece = item % pieces;
        if (member > 0 && memory_of(member) == memory_of(member - 1)) return;
        transform_tiles(layers_[step.first + static_cast<size_t>(member)].convolution, piece * TILES_PER_PART,
                        std::min((piece + 1) * TILES_PER_PART, tiles), 0, tiles, memory_of(member), scratch);
    });
    team.pass(divided.parts * members, [&](int64_t item) {
        const int64_t member = item / divided.parts, first = item % divided.parts * divided.width;
        const Layer &layer = layers_[step.first + static_cast<size_t>(member)];
        const MapConvolution &c = layer.convolution;
        const int64_t end = std::min(first + divided.width, c.outputs);
        float *sums = sums_of(layer, 0);
        if (sums) std::fill(sums + first, sums + end, 0.0f);
        multiply_tiles(c, 0, tiles, memory_of(member), first, end, sums, scratch);
    });
}

void Encoder::gate(Team &team, const Gate &gate, float *scratch) {
    const Layer &layer = layers_[gate.layer];
    const Division divided = division(layer, 1, team.size());
    const int64_t channels = gate.gated.channels, squeezed = padded(gate.squeezed);
    const int64_t pixels = gate.gated.size * gate.gated.size;
    const int64_t pieces = std::max<int64_t>(team.size(), parts(gate.gated.size, GATED_ROWS));
    team.pass(pieces, [&](int64_t item) {
        // Every part computes the gate anew: that is less work than waiting for it.
        float *mean = scratch, *small = mean + channels, *values = small + squeezed;
        std::fill_n(mean, channels, 0.0f);
        for (int64_t part = 0; part < (divided.shared ? 1 : divided.parts); ++part)
            for (int64_t k = 0; k < channels; ++k)
                mean[k] += sums_[layer.sums + static_cast<size_t>(part * channels + k)];
        for (int64_t k = 0; k < channels; ++k) mean[k] /= static_cast<float>(pixels);
        std::fill_n(small, squeezed, 0.0f);
        multiply_vector(gate.weight1.data(), gate.squeezed, channels, mean, small);
        for (int64_t k = 0; k < gate.squeezed; ++k) small[k] = std::max(small[k], 0.0f);
        std::fill_n(values, channels, 0.0f);
        multiply_vector(gate.weight2.data(), static_cast<int64_t>(gate.weight2.size()) / squeezed, squeezed,
                        small, values);
        for (int64_t k = 0; k < channels; ++k) values[k] = 1.0f / (1.0f + std::exp(-values[k]));
        Gated gated = gate.gated;
        gated.gate = values;
        gate_rows(gated, gated.size * item / pieces, gated.size * (item + 1) / pieces);
    });
}

void Encoder::write_codes(Team &team, float *codes, float *scratch) {
    team.pass(rows(), [&](int64_t item) {
        Row &row = rows_[static_cast<size_t>(item)];
        if (row.weight.empty()) return;
        std::fill_n(scratch, row.channels, 0.0f);
        sum_rows(row.map, row.size, row.channels, 0, row.size, scratch);
        for (int64_t k = 0; k < row.channels; ++k) scratch[k] /= static_cast<float>(row.size * row.size);
        multiply_vector(row.weight.data(), w_dim_, row.channels, scratch, row.product.data());
    });
    team.pass(rows(), [&](int64_t item) {
        const Row &row = rows_[static_cast<size_t>(item)];
        float *out = codes + item * w_dim_;
        for (size_t k = 0; k < static_cast<size_t>(w_dim_); ++k) {
            out[k] = row.product[k] + row.bias[k];
            if (row.base >= 0) out[k] += rows_[static_cast<size_t>(row.base)].product[k];
        }
    });
}

void Encoder::work(Team &team, float *scratch, float *codes) {
    for (const Step &step : steps_) {
        if (step.kind == StepKind::convolution) {
            convolve(team, step, scratch);
        } else if (step.kind == StepKind::gate) {
            gate(team, gates_[step.first], scratch);
        } else {
            const Doubling &d = doublings_[step.first];
            const int64_t pieces = parts(2 * d.size, GATED_ROWS);
            team.pass(pieces, [&](int64_t item) {
                double_rows(d.from, d.size, d.channels, d.to, 2 * d.size * item / pieces,
                            2 * d.size * (item + 1) / pieces);
            });
        }
    }
    write_codes(team, codes, scratch);
}

void Encoder::run(const float *crop, float *codes, int threads) {
    threads = std::max(1, threads);
    int64_t scratch = 0, factors = 0, sums = 0;
    for (const Step &step : steps_) {
        if (step.kind != StepKind::convolution) continue;
        const int64_t members = static_cast<int64_t>(step.end - step.first);
        const Division divided = division(layers_[step.first], members, threads);
        scratch = std::max(scratch, divided.scratch);
        const MapConvolution &first = layers_[step.first].convolution;
        if (divided.shared)
            factors = std::max(factors, (maps_before(step.first, step.end - 1) + 1) *
                                            factor_floats(first, tile_count(first)));
        for (size_t n = step.first; n < step.end; ++n) {
            Layer &layer = layers_[n];
            if (layer.convolution.method == Method::picture) layer.convolution.x = crop;
            if (!layer.measured) continue;
            layer.sums = static_cast<size_t>(sums);
            sums += (divided.shared ? 1 : divided.parts) * layer.convolution.outputs;
        }
    }
    for (const Gate &gate : gates_)
        scratch = std::max(scratch, 2 * gate.gated.channels + padded(gate.squeezed));
    for (const Row &row : rows_) scratch = std::max(scratch, row.channels);
    const auto grow = [](auto &memory, int64_t floats) {
        if (memory.size() < static_cast<size_t>(floats)) memory.resize(static_cast<size_t>(floats));
    };
    grow(factors_, factors);
    grow(sums_, sums);
    scratch_.resize(static_cast<size_t>(threads));
    for (Memory &memory : scratch_) grow(memory, scratch);
    as_team(threads, [&](Team &team, int member) {
        work(team, scratch_[static_cast<size_t>(member)].data(), codes);
    });
}

}  // namespace doppelgan
