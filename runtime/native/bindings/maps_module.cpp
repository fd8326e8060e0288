// Bindings of the kernels on smooth maps: array contracts only.

#include "arrays.h"
#include "pixels/map_kernels.h"

#include <nanobind/stl/optional.h>

#include <initializer_list>
#include <optional>
#include <utility>

namespace {

// The side that all arrays have in common.
template <typename... Arrays>
int64_t common_side(const Arrays &...arrays) {
    int64_t size = 0;
    for (const auto &[rows, columns] : {std::pair(arrays.shape(arrays.ndim() - 2), arrays.shape(arrays.ndim() - 1))...}) {
        const int64_t own = side(rows, columns, "maps");
        if (size != 0 && own != size) throw nb::value_error("maps must be of one size");
        size = own;
    }
    return size;
}

double width(double sigma) {
    if (!(sigma > 0)) throw nb::value_error("a blur's width must be above 0");
    return sigma;
}

}  // namespace

void bind_maps(nb::module_ &m) {
    m.def(
        "blurred",
        [](const WritableMaps &out, const Maps &maps, double sigma) {
            const int64_t size = common_side(out, maps);
            if (out.shape(0) != maps.shape(0)) throw nb::value_error("out must have as many maps");
            width(sigma);
            nb::gil_scoped_release release;
            doppelgan::blurred(out.data(), maps.data(), static_cast<int64_t>(maps.shape(0)), size, sigma);
        },
        nb::arg("out").noconvert(), nb::arg("maps").noconvert(), nb::arg("sigma"));

    m.def(
        "read_light",
        [](const WritablePlanes &out, const Planes &seen, const Planes &drawn, const Mask &face,
           const Planes &gain, double near, double reach, float doubtful, float least, float most, float prior,
           float fewest) {
            const int64_t size = common_side(out, seen, drawn, face, gain);
            const doppelgan::LightRules rules{width(near), width(reach), doubtful, least, most, prior, fewest};
            nb::gil_scoped_release release;
            return doppelgan::read_light(out.data(), seen.data(), drawn.data(), face.data(), gain.data(), size,
                                         rules);
        },
        nb::arg("out").noconvert(), nb::arg("seen").noconvert(), nb::arg("drawn").noconvert(),
        nb::arg("face").noconvert(), nb::arg("gain").noconvert(), nb::arg("near"), nb::arg("reach"),
        nb::arg("doubtful"), nb::arg("least"), nb::arg("most"), nb::arg("prior"), nb::arg("fewest"));

    m.def(
        "agree",
        [](const WritablePlanes &usual, const WritableMask &varied, const WritableMask &shown,
           const Planes &error, const Mask &face, const Planes &usual_before, const Mask &varied_before,
           const Mask &shown_before, float familiar, float learnt, float cover, float uncover, double near,
           float unknown, float known, float varied_share, float unsure) {
            const int64_t size = common_side(usual, varied, shown, error, face, usual_before, varied_before,
                                             shown_before);
            const doppelgan::AgreementState before{usual_before.data(), varied_before.data(),
                                                   shown_before.data()};
            const doppelgan::AgreementShares shares{familiar, learnt, cover, uncover};
            const doppelgan::AgreementRules rules{width(near), unknown, known, varied_share, unsure};
            nb::gil_scoped_release release;
            doppelgan::agree(usual.data(), varied.data(), shown.data(), error.data(), face.data(), before, size,
                             shares, rules);
        },
        nb::arg("usual").noconvert(), nb::arg("varied").noconvert(), nb::arg("shown").noconvert(),
        nb::arg("error").noconvert(), nb::arg("face").noconvert(), nb::arg("usual_before").noconvert(),
        nb::arg("varied_before").noconvert(), nb::arg("shown_before").noconvert(), nb::arg("familiar"),
        nb::arg("learnt"), nb::arg("cover"), nb::arg("uncover"), nb::arg("near"), nb::arg("unknown"),
        nb::arg("known"), nb::arg("varied_share"), nb::arg("unsure"));

    m.def(
        "covered",
        [](const WritableMask &out, const Planes &change, const Planes &drawn, double near, float darkest) {
            const int64_t size = common_side(out, change, drawn);
            width(near);
            nb::gil_scoped_release release;
            doppelgan::covered(out.data(), change.data(), drawn.data(), size, near, darkest);
        },
        nb::arg("out").noconvert(), nb::arg("change").noconvert(), nb::arg("drawn").noconvert(),
        nb::arg("near"), nb::arg("darkest"));

    m.def(
        "reachable",
        [](const WritablePlanes &out, const Planes &change, const Planes &missing, const Mask &hidden,
           const Mask &skin, double near, float most, float sheer, float begins, float ends) {
            const int64_t size = common_side(out, change, missing, hidden, skin);
            const doppelgan::ReachRules rules{width(near), most, sheer, begins, ends};
            nb::gil_scoped_release release;
            doppelgan::reachable(out.data(), change.data(), missing.data(), hidden.data(), skin.data(), size,
                                 rules);
        },
        nb::arg("out").noconvert(), nb::arg("change").noconvert(), nb::arg("missing").noconvert(),
        nb::arg("hidden").noconvert(), nb::arg("skin").noconvert(), nb::arg("near"), nb::arg("most"),
        nb::arg("sheer"), nb::arg("begins"), nb::arg("ends"));

    m.def(
        "strength",
        [](const WritableMask &out, const Mask &amplitude, double near, float least, float share, float sure) {
            const int64_t size = common_side(out, amplitude);
            width(near);
            nb::gil_scoped_release release;
            doppelgan::strength(out.data(), amplitude.data(), size, near, least, share, sure);
        },
        nb::arg("out").noconvert(), nb::arg("amplitude").noconvert(), nb::arg("near"), nb::arg("least"),
        nb::arg("share"), nb::arg("sure"));

    m.def(
        "belonging",
        [](const WritableMask &out, const Mask &strong, const Mask &amplitude, const Mask &face,
           const Mask &near, float inside_from, float inside_to, float whole_from, float whole_to) {
            const int64_t size = common_side(out, strong, amplitude, face, near);
            const doppelgan::BelongingRules rules{{inside_from, inside_to}, {whole_from, whole_to}};
            nb::gil_scoped_release release;
            doppelgan::belonging(out.data(), strong.data(), amplitude.data(), face.data(), near.data(), size,
                                 rules);
        },
        nb::arg("out").noconvert(), nb::arg("strong").noconvert(), nb::arg("amplitude").noconvert(),
        nb::arg("face").noconvert(), nb::arg("near").noconvert(), nb::arg("inside_from"), nb::arg("inside_to"),
        nb::arg("whole_from"), nb::arg("whole_to"));

    m.def(
        "amounts",
        [](const WritablePlanes &out, const Planes &gain, const Planes &limit, const Mask &strong,
           const Mask &belonging, const Mask &agreement, const Mask &window, const std::optional<Flow> &flow,
           const std::optional<Mask> &inside, float far) {
            const int64_t size = common_side(out, gain, limit, strong, belonging, agreement, window);
            if (flow.has_value() != inside.has_value())
                throw nb::value_error("expected flow and inside together, or none of them");
            if (flow) common_side(out, *flow, *inside);
            const doppelgan::Weights weights{strong.data(), belonging.data(), agreement.data(), window.data()};
            nb::gil_scoped_release release;
            doppelgan::amounts(out.data(), gain.data(), limit.data(), weights, flow ? flow->data() : nullptr,
                               inside ? inside->data() : nullptr, size, far);
        },
        nb::arg("out").noconvert(), nb::arg("gain").noconvert(), nb::arg("limit").noconvert(),
        nb::arg("strong").noconvert(), nb::arg("belonging").noconvert(), nb::arg("agreement").noconvert(),
        nb::arg("window").noconvert(), nb::arg("flow").noconvert().none(), nb::arg("inside").noconvert().none(),
        nb::arg("far"));
}
