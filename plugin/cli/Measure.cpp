// SPDX-License-Identifier: MIT
#include "CommandLine.h"
#include "Commands.h"
#include "MatrixFree.h"
#include "spacetime/Samples.h"
#include "spacetime/Solver.h"
#include "spacetime/Text.h"
#include "spacetime/Training.h"
#include <cmath>
#include <cstdio>
#include <iostream>

namespace po = boost::program_options;
using nlohmann::json;

namespace Spacetime {

int runMeasure(const std::vector<std::string>& words) {
    po::options_description options("Measure");
    options.add_options()("curve", po::value<std::string>(), "curve file")("temperature", po::value<std::string>(), "K; turns kJ/mol into kT")(
        "reference", po::value<std::string>(), "samples whose exact posterior the model is judged against at the curve's points, FILE.npz|npy|csv");
    options.add(constraintOptions()).add(largeOptions()).add(modelOptions());
    const CommandLine line("measure MODEL --curve curve.json [options]", options, "", words);
    if (line.helped())
        return 0;
    const Curve curve = Curve::load(line.require("curve"));
    double temperature;
    const auto model = openModel(line, temperature);
    if (!model->variables().compatible(curve.variables()))
        throw std::invalid_argument("the model's variables (" + describe(model->variables()) + ") are not those of the curve (" + describe(curve.variables()) + ")");
    if (isLarge(*model))
        return largeMeasure(line, *model, curve);
    temperature = line.number("temperature", temperature > 0 ? temperature : curve.temperature);
    GeodesicOptions o;
    readConstraints(line, model->variables(), temperature, o);
    const CurveMeasure m = measure(*model, curve.eta());
    const auto constraints = constraintValues(*model, curve, o);
    const int segments = curve.numPoints() - 1;
    Consistency consistency;
    double referenceNEff = 0;
    if (line.has("reference")) {
        const Samples samples = readSamples(line.text("reference"));
        if (samples.raw.rows() != model->variables().size())
            throw std::invalid_argument("'" + line.text("reference") + "' has " + std::to_string(samples.raw.rows()) + " columns, but the model has " +
                                        std::to_string(model->variables().size()) + " variables");
        EmpiricalModel::Options given;
        given.grid = samples.grid;
        const EmpiricalModel reference(model->variables(), samples.raw, samples.logWeights, given);
        consistency = compare(*model, reference, curve.eta());
        referenceNEff = reference.moments(curve.eta(), PosteriorModel::Order::Mean).nEff.minCoeff();
    }
    if (line.json()) {
        json out = {{"energy", m.energy},
                    {"length", m.length},
                    {"length_extrapolated", m.lengthExtrapolated},
                    {"speed_gap", m.speedGap},
                    {"max_free_energy_kT", m.beta_F.maxCoeff()},
                    {"max_tr_cov", m.trCov.maxCoeff()},
                    {"inconsistent_segments", m.negativeEdges},
                    {"segments", segments},
                    {"max_asymmetry", m.asymmetry},
                    {"constraints", toJson(constraints)},
                    {"min_n_eff", std::isfinite(m.minNEff) ? json(m.minNEff) : json(nullptr)}};
        if (line.has("reference"))
            out["consistency"] = {{"median_error", consistency.medianError}, {"error_90", consistency.error90}, {"jacobian_error", consistency.jacobianError},
                                  {"asymmetry", consistency.asymmetry},      {"points", consistency.points},    {"min_n_eff", referenceNEff}};
        std::cout << out.dump() << "\n";
    }
    else {
        std::printf("length               %.5f (extrapolated %.5f)\nenergy               %.4f\nspeed gap            %.2e\n", m.length, m.lengthExtrapolated, m.energy, m.speedGap);
        std::printf("highest psi*         %.2f kT above the start\nlargest tr Cov       %.4f\n", m.beta_F.maxCoeff(), m.trCov.maxCoeff());
        std::printf("inconsistent         %d of %d segments\nasymmetry of J       %.1e\n", m.negativeEdges, segments, m.asymmetry);
        if (std::isfinite(m.minNEff))
            std::printf("smallest N_eff       %.0f\n", m.minNEff);
        if (line.has("reference"))
            std::printf(
                "error of mu          %.3f (median), %.3f (90 %%) posterior standard deviations of the reference, whose smallest N_eff is %.0f\nerror of J           %.3f (median)\n",
                consistency.medianError, consistency.error90, referenceNEff, consistency.jacobianError);
        for (const ConstraintValue& c : constraints)
            std::printf("%-20s %.5g at s = %.3f, the bound is %s %g%s\n", c.name.c_str(), c.extreme, c.s, c.isUpper ? "<=" : ">=", c.bound, c.violation > 0 ? ": VIOLATED" : "");
    }
    if (m.minNEff < MinNEff) {
        std::fprintf(stderr, "spacetime measure: only %.0f effective samples lie on parts of the curve, at least 30 are needed to trust it\n", m.minNEff);
        return 1;
    }
    return 0;
}

}  // namespace Spacetime
