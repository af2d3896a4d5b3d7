// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <nanobind/nanobind.h>
#include <stdexcept>

namespace Spacetime {

/// Runs `solve`, which calls `callback`, without the GIL. The callback hands on to the caller's `progress`; Ctrl-C stops the work and is raised here,
/// and so is an exception of that function, also where `solve` throws because it was stopped.
template <class Solve>
auto interruptible(std::function<bool(double)>& callback, const nanobind::object& progress, Solve solve) {
    namespace nb = nanobind;
    bool failed = false;
    callback = [&failed, &progress](double fraction) {
        nb::gil_scoped_acquire gil;
        if (failed || PyErr_CheckSignals() != 0) {
            failed = true;
            return false;
        }
        if (fraction < 0 || progress.is_none())
            return true;
        try {
            nb::object answer = progress(fraction);
            return !answer.is(nb::handle(Py_False));
        }
        catch (nb::python_error& e) {
            e.restore();
            failed = true;
            return false;
        }
    };
    try {
        auto results = [&] {
            nb::gil_scoped_release release;
            return solve();
        }();
        callback = nullptr;
        if (failed)
            throw nb::python_error();
        return results;
    }
    catch (const std::runtime_error&) {
        callback = nullptr;
        if (failed)
            throw nb::python_error();
        throw;
    }
}

}  // namespace Spacetime
