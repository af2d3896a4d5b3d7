// SPDX-License-Identifier: MIT
// Denoisers of pictures and their training; openmmspacetime/imagemodels.py is the documented face of the latter.
#include "arrays.h"
#include "spacetime/ImageModel.h"
#include <functional>
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>
#include <nlohmann/json.hpp>

using namespace nb::literals;
using namespace Spacetime;

namespace {

nb::dict asDict(const UnetShape& u) {
    nb::dict d;
    d["patch"] = u.patch;
    d["channels"] = u.channels;
    d["multipliers"] = u.multipliers;
    d["blocks"] = u.blocks;
    d["embedding"] = u.embedding;
    return d;
}

}  // namespace

void bindImages(nb::module_& m) {
    nb::class_<ImageModel, DenoiserModel>(
        m, "ImageModel",
        "A denoiser of pictures: a U-Net with the preconditioning of EDM (Karras et al., arXiv:2206.00364), evaluated by LibTorch.\n\n"
        "The variables are the pixels, row by row, the channels of a pixel together, with raw values in [0, 1]. There are too many for a covariance\n"
        "as a matrix: moments of second order are refused beyond 256 variables, what needs products only works with any number.")
        .def_static(
            "load",
            [](const std::filesystem::path& path, const std::string& device) {
                nb::gil_scoped_release release;
                return ImageModel::load(path.string(), device);
            },
            "path"_a, "device"_a = "cpu",
            "Read a safetensors model file; never runs code.\n\nParameters\n----------\npath : str or os.PathLike\ndevice : str\n    'cpu' or 'cuda'.\n\n"
            "Raises\n------\nValueError\n    For files that hold no model of pictures, or a damaged one.\nRuntimeError\n    Where LibTorch or the device cannot be opened.")
        .def_prop_ro(
            "imageShape", [](const ImageModel& i) { return nb::make_tuple(i.imageShape().height, i.imageShape().width, i.imageShape().channels); }, "(height, width, channels).")
        .def_prop_ro(
            "unet", [](const ImageModel& i) { return asDict(i.unet()); }, "Shape of the U-Net: patch, channels, multipliers, blocks, embedding.")
        .def_prop_ro("numParameters", &ImageModel::numParameters, "Weights of the network.")
        .def_prop_ro(
            "training", [](const ImageModel& i) { return nb::module_::import_("json").attr("loads")(i.training()); },
            "The training record, a dict: command, seed, steps, seconds, losses [[step, training, held out]], ...")
        .def("setActivationMemory", &ImageModel::setActivationMemory, "bytes"_a,
             "How many bytes of activations are held at the same time (1e9): sets how many pictures go through the net together.");

    m.def(
        "loadModel",
        [](const std::filesystem::path& path, const std::string& device) {
            nb::gil_scoped_release release;
            return loadModel(path.string(), device);
        },
        "path"_a, "device"_a);

    nb::class_<ImageTrainingOptions>(m, "ImageTrainingOptions", "Defaults of training on pictures; see openmmspacetime.trainImages.")
        .def(
            "__init__",
            [](ImageTrainingOptions* o, int height, int width, int channels) {
                new (o) ImageTrainingOptions();
                o->unet = UnetShape::forPictures({height, width, channels});
            },
            "height"_a, "width"_a, "channels"_a)
        .def_rw("steps", &ImageTrainingOptions::steps)
        .def_rw("batch", &ImageTrainingOptions::batch)
        .def_rw("seed", &ImageTrainingOptions::seed)
        .def_rw("learningRate", &ImageTrainingOptions::learningRate)
        .def_rw("averaging", &ImageTrainingOptions::averaging)
        .def_rw("heldOut", &ImageTrainingOptions::heldOut)
        .def_rw("minLogSnr", &ImageTrainingOptions::minLogSnr)
        .def_rw("maxLogSnr", &ImageTrainingOptions::maxLogSnr)
        .def_rw("flips", &ImageTrainingOptions::flips)
        .def_rw("device", &ImageTrainingOptions::device)
        .def_rw("threads", &ImageTrainingOptions::threads)
        .def_rw("reportEvery", &ImageTrainingOptions::reportEvery)
        .def_rw("command", &ImageTrainingOptions::command)
        .def_rw("resume", &ImageTrainingOptions::resume)
        .def_rw("checkpointSeconds", &ImageTrainingOptions::checkpointSeconds)
        .def_prop_rw(
            "unet", [](const ImageTrainingOptions& o) { return asDict(o.unet); },
            [](ImageTrainingOptions& o, const nb::dict& d) {
                o.unet = {nb::cast<int>(d["patch"]), nb::cast<int>(d["channels"]), nb::cast<std::vector<int>>(d["multipliers"]), nb::cast<int>(d["blocks"]),
                          nb::cast<int>(d["embedding"])};
            });
    m.def(
        "trainImages",
        [](nb::handle pixels, const std::string& out, ImageTrainingOptions o, const nb::object& progress) {
            ImageSet set;
            {
                const auto a = floats(pixels, 4, "pixels");
                set.shape = {static_cast<int>(a.shape(1)), static_cast<int>(a.shape(2)), static_cast<int>(a.shape(3))};
                // numpy's rows are the core's columns.
                set.pixels = Eigen::Map<const Eigen::MatrixXd>(a.data(), set.shape.size(), a.shape(0));
            }
            bool failed = false;
            // The callbacks hold the GIL only for as long as they run; what Python throws in them is thrown again at the end, when what was learned is written.
            auto guarded = [&failed](auto body) {
                nb::gil_scoped_acquire gil;
                if (failed)
                    return false;
                try {
                    if (PyErr_CheckSignals() == 0)
                        return body();
                }
                catch (nb::python_error& e) {
                    e.restore();
                }
                failed = true;
                return false;
            };
            o.goOn = [&] { return guarded([] { return true; }); };
            if (!progress.is_none())
                o.progress = [&](int step, int steps, double loss, double heldOut) {
                    return guarded([&] { return !progress(step, steps, loss, heldOut).is(nb::handle(Py_False)); });
                };
            try {
                nb::gil_scoped_release release;
                trainImages(set, o, out);
            }
            catch (const std::exception&) {
                if (!failed)
                    throw;
            }
            if (failed)
                throw nb::python_error();
        },
        "pixels"_a, "out"_a, "options"_a, "progress"_a.none());
}
