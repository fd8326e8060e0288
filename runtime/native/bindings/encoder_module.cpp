// Bindings of the encoder: arrays are checked here, copied by the constructor, computed in encoder.cpp.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <string>
#include <utility>

#include "networks/encoder.h"

namespace nb = nanobind;

using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Crop = nb::ndarray<const float, nb::shape<-1, -1, -1>, nb::c_contig, nb::device::cpu>;
using Codes = nb::ndarray<float, nb::shape<-1, -1>, nb::c_contig, nb::device::cpu>;

namespace {

using Fields = nb::typed<nb::dict, nb::str, nb::any>;

// The array `key` of a step; it must have `count` values.
const float *values(const nb::dict &step, const char *key, int64_t count) {
    const Floats array = nb::cast<Floats>(step[key], false);
    if (static_cast<int64_t>(array.size()) != count)
        throw nb::value_error((std::string(key) + ": expected " + std::to_string(count) + " values, got " +
                               std::to_string(array.size()))
                                  .c_str());
    return array.data();
}

int64_t number(const nb::dict &step, const char *key) { return nb::cast<int64_t>(step[key]); }

void require(bool fits, const char *expected) {
    if (!fits) throw nb::value_error(expected);
}

// Checks every step against the maps it joins.
class Builder {
  public:
    Builder(int64_t planes, int64_t size, const std::vector<std::pair<int64_t, int64_t>> &maps)
        : planes_(planes), size_(size), made_(maps.size(), Made::nothing) {
        require(planes > 0 && planes <= MOST_CHANNELS && size > 0 && size <= MOST_PIXELS,
                "a crop has planes and pixels");
        for (const auto &[side, channels] : maps) {
            require(side > 0 && side <= MOST_PIXELS && channels > 0 && channels <= MOST_CHANNELS,
                    "maps have pixels and channels");
            shapes.push_back({side, channels});
        }
    }

    doppelgan::EncoderStep step(const nb::dict &from) {
        doppelgan::EncoderStep step{};
        const std::string kind = nb::cast<std::string>(from["kind"]);
        step.source = static_cast<int>(number(from, "source"));
        step.target = static_cast<int>(number(from, "target"));
        step.other = doppelgan::NO_MAP;
        require(step.target >= 0 && static_cast<size_t>(step.target) < made_.size() &&
                    made_[static_cast<size_t>(step.target)] == Made::nothing,
                "a step makes a map that nothing made before");
        require(known(step.source) || (step.source == doppelgan::PICTURE && kind == "conv"),
                "a step reads a map that was made before");
        if (kind == "conv")
            convolution(from, step);
        else if (kind == "gate")
            gate(from, step);
        else if (kind == "double")
            require(of(step.target).size == 2 * of(step.source).size && same_channels(step),
                    "a map of twice the size");
        else
            throw nb::value_error(("kind: expected conv, gate or double, got " + kind).c_str());
        step.kind = kind == "conv"   ? doppelgan::StepKind::convolution
                    : kind == "gate" ? doppelgan::StepKind::gate
                                     : doppelgan::StepKind::doubling;
        made_[static_cast<size_t>(step.target)] = kind == "conv" ? Made::convolved : Made::other;
        return step;
    }

    doppelgan::CodeRow row(const nb::dict &from, int64_t w_dim, int64_t rows) const {
        doppelgan::CodeRow row{};
        row.source = static_cast<int>(number(from, "source"));
        row.base = static_cast<int>(number(from, "base"));
        require(known(row.source) && row.base < rows, "a row reads a map and, if any, another row");
        if (from.contains("weight")) row.weight = values(from, "weight", w_dim * of(row.source).channels);
        row.bias = values(from, "bias", w_dim);
        return row;
    }

    std::vector<doppelgan::MapShape> shapes;

  private:
    static constexpr int64_t MOST_PIXELS = 1 << 14, MOST_CHANNELS = 1 << 20;  // no product overflows
    enum class Made { nothing, convolved, other };

    const doppelgan::MapShape &of(int map) const { return shapes[static_cast<size_t>(map)]; }
    bool known(int map) const {
        return map >= 0 && static_cast<size_t>(map) < made_.size() &&
               made_[static_cast<size_t>(map)] != Made::nothing;
    }
    bool same_channels(const doppelgan::EncoderStep &step) const {
        return of(step.source).channels == of(step.target).channels;
    }

    void convolution(const nb::dict &from, doppelgan::EncoderStep &step) const {
        const bool picture = step.source == doppelgan::PICTURE;
        const int64_t size = picture ? size_ : of(step.source).size;
        step.inputs = picture ? planes_ : of(step.source).channels;
        step.outputs = of(step.target).channels;
        step.side = number(from, "side"), step.stride = number(from, "stride");
        require(step.side == 1 || step.side == 3 || (picture && step.side == 7),
                "kernels of 1 or 3 pixels, 7 on the crop");
        require((step.stride == 1 || step.stride == 2) &&
                    of(step.target).size == (size + step.stride - 1) / step.stride,
                "stride 1 or 2, and a map of that size");
        step.weight = values(from, "weight", step.outputs * step.inputs * step.side * step.side);
        step.bias = values(from, "bias", step.outputs);
        step.slope = values(from, "slope", step.outputs);
        if (from.contains("scale")) {
            require(!picture && step.stride == 1 && (step.side == 1 || size > 1),
                    "scale and shift only of a map and with stride 1");
            step.scale = values(from, "scale", step.inputs);
            step.shift = values(from, "shift", step.inputs);
        }
        if (!from.contains("other")) return;
        step.other = static_cast<int>(number(from, "other"));
        require(known(step.other) && of(step.other).size == of(step.target).size &&
                    of(step.other).channels == step.outputs,
                "a map to add that is as large as the result");
    }

    void gate(const nb::dict &from, doppelgan::EncoderStep &step) const {
        step.other = static_cast<int>(number(from, "other"));
        step.stride = number(from, "stride"), step.squeezed = number(from, "squeezed");
        require(known(step.other) && made_[static_cast<size_t>(step.source)] == Made::convolved &&
                    same_channels(step) && of(step.other).channels == of(step.target).channels &&
                    of(step.source).size == of(step.target).size && step.squeezed > 0 &&
                    (step.stride == 1 || step.stride == 2) &&
                    (of(step.other).size + step.stride - 1) / step.stride == of(step.target).size,
                "a gate of a convolution's map, and a map to add");
        const int64_t channels = of(step.source).channels;
        step.gate1 = values(from, "gate1", step.squeezed * channels);
        step.gate2 = values(from, "gate2", channels * step.squeezed);
    }

    const int64_t planes_, size_;
    std::vector<Made> made_;
};

std::unique_ptr<doppelgan::Encoder> build(int64_t planes, int64_t size, int64_t w_dim,
                                          const std::vector<std::pair<int64_t, int64_t>> &maps,
                                          const std::vector<Fields> &steps,
                                          const std::vector<Fields> &rows, const std::string &precision) {
    if (precision != "float32" && precision != "int16")
        throw nb::value_error(("precision: expected float32 or int16, got " + precision).c_str());
    require(w_dim > 0 && !rows.empty(), "an encoder has rows of codes");
    Builder builder(planes, size, maps);
    std::vector<doppelgan::EncoderStep> checked;
    for (const Fields &step : steps) checked.push_back(builder.step(step));
    std::vector<doppelgan::CodeRow> codes;
    for (const Fields &row : rows)
        codes.push_back(builder.row(row, w_dim, static_cast<int64_t>(rows.size())));
    return std::make_unique<doppelgan::Encoder>(
        planes, size, w_dim, builder.shapes, checked, codes,
        precision == "int16" ? doppelgan::Arithmetic::int16 : doppelgan::Arithmetic::float32);
}

void run(doppelgan::Encoder &encoder, const Crop &crop, const Codes &codes, int threads) {
    require(static_cast<int64_t>(crop.shape(0)) == encoder.planes() &&
                static_cast<int64_t>(crop.shape(1)) == encoder.size() &&
                static_cast<int64_t>(crop.shape(2)) == encoder.size() &&
                static_cast<int64_t>(codes.shape(0)) == encoder.rows() &&
                static_cast<int64_t>(codes.shape(1)) == encoder.w_dim(),
            "crop or codes have another shape than the network's");
    nb::gil_scoped_release release;
    encoder.run(crop.data(), codes.data(), threads);
}

}  // namespace

void bind_encoder(nb::module_ &m) {
    nb::class_<doppelgan::Encoder>(m, "Encoder")
        .def(nb::new_(&build), nb::arg("planes"), nb::arg("size"), nb::arg("w_dim"), nb::arg("maps"),
             nb::arg("steps"), nb::arg("rows"), nb::arg("precision") = "float32")
        .def("run", &run, nb::arg("crop").noconvert(), nb::arg("codes").noconvert(), nb::arg("threads") = 1)
        .def_prop_ro("bytes", &doppelgan::Encoder::bytes);
}
