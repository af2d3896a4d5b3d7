// SPDX-License-Identifier: MIT
#include "CommandLine.h"
#include "Commands.h"
#include "MatrixFree.h"
#include "spacetime/Files.h"
#include "spacetime/Text.h"
#include <cmath>
#include <cstdio>
#include <iostream>

namespace po = boost::program_options;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using nlohmann::json;

namespace Spacetime {

namespace {

/// Pairs of points from a CSV file with 2 n numbers a row: a, then b. A first row that is not numbers is a header.
std::vector<std::vector<double>> readPairs(const std::string& path, int n) {
    std::vector<std::vector<double>> rows;
    int number = 0;
    for (std::string line : split(readFile(path), '\n')) {
        number++;
        if (!line.empty() && line.back() == '\r')
            line.pop_back();
        if (line.find_first_not_of(" \t") == std::string::npos)
            continue;
        const std::string where = "'" + path + "', line " + std::to_string(number);
        try {
            rows.push_back(parseNumbers(line, where));
        }
        catch (const std::invalid_argument&) {
            if (number == 1)  // a header
                continue;
            throw;
        }
        if (static_cast<int>(rows.back().size()) != 2 * n)
            throw std::invalid_argument(where + ": expected " + std::to_string(2 * n) + " numbers (two points of " + std::to_string(n) + "), got " +
                                        std::to_string(rows.back().size()));
        for (double x : rows.back())
            if (!std::isfinite(x))
                throw std::invalid_argument(where + ": expected finite numbers");
    }
    if (rows.empty())
        throw std::invalid_argument("'" + path + "' holds no pairs");
    return rows;
}

}  // namespace

int runDistance(const std::vector<std::string>& words) {
    po::options_description options("Distance");
    options.add_options()("pairs", po::value<std::string>(), "CSV file, 2 n numbers a row: a pair of clean points (rad, nm)")(
        "from", po::value<std::string>(), "one pair: a,b,..., or @FILE")("images", po::value<std::string>(), "of models of pictures: all pairs of a folder or .npy file")(
        "to", po::value<std::string>(), "its other end")("log-snr", po::value<std::string>(), "log-SNR of both ends (4); the distance depends on it")(
        "points", po::value<std::string>(), "nodes of each curve (65; 17 of pictures)")("seed", po::value<std::string>(), "of probes (1)")(
        "tolerance", po::value<std::string>(), "on the relative Newton decrement (1e-4)")("threads", po::value<std::string>(), "pairs solved at the same time (all cores)")(
        "out", po::value<std::string>(), "CSV file to write: distance,length,speed_gap,converged a pair");
    options.add(constraintOptions()).add(largeOptions()).add(modelOptions());
    const CommandLine line("distance MODEL --pairs FILE.csv | --from a,b --to a,b [options]", options, "", words);
    if (line.helped())
        return 0;
    if (line.has("out"))
        checkOutput(line.text("out"), line.overwrite());
    if (line.has("pairs") + line.has("images") + (line.has("from") || line.has("to")) != 1)
        throw std::invalid_argument("give one of --pairs, --images, and --from with --to");
    double temperature;
    const auto model = openModel(line, temperature);
    if (isLarge(*model) && !line.has("pairs"))
        return largeDistance(line, *model);
    if (line.has("images"))
        throw std::invalid_argument("--images needs a model of pictures");
    const Variables& vars = model->variables();
    const int n = vars.size();
    std::vector<std::vector<double>> pairs;
    if (line.has("pairs"))
        pairs = readPairs(line.text("pairs"), n);
    else {
        std::vector<double> row = line.numbers("from");
        const std::vector<double> to = line.numbers("to");
        if (static_cast<int>(row.size()) != n || static_cast<int>(to.size()) != n)
            throw std::invalid_argument("--from and --to: expected " + std::to_string(n) + " numbers each, got " + std::to_string(row.size()) + " and " +
                                        std::to_string(to.size()));
        row.insert(row.end(), to.begin(), to.end());
        pairs.push_back(row);
    }
    const double logSnr = line.number("log-snr", 4);
    MatrixXd a(vars.numStatistics(), pairs.size()), b = a;
    for (size_t k = 0; k < pairs.size(); k++) {
        a.col(k) = vars.naturalParameter(VectorXd::Map(pairs[k].data(), n), logSnr);
        b.col(k) = vars.naturalParameter(VectorXd::Map(pairs[k].data() + n, n), logSnr);
    }
    GeodesicOptions o;
    o.numPoints = line.integer("points", 65, 5);
    // The step that meets this tolerance is taken, so that the length is right to far more digits.
    o.tolerance = line.number("tolerance", 1e-4);
    o.threads = line.integer("threads", 0, 0);
    readConstraints(line, vars, temperature, o);
    const auto batch = [&] {
        const SolverProgress progress(line);
        o.progress = std::cref(progress);
        return geodesicBatch(*model, a, b, o);
    }();

    std::string table = "distance,length,speed_gap,converged\n";
    json list = json::array();
    int failed = 0, loose = 0;
    for (size_t k = 0; k < batch.size(); k++) {
        if (batch[k].same) {
            table += "0,0,0,1\n";
            list.push_back({{"distance", 0.0}, {"length", 0.0}, {"converged", true}});
            continue;
        }
        if (batch[k].results.empty()) {
            failed++;
            table += ",,,0\n";
            list.push_back({{"distance", nullptr}, {"error", batch[k].error}});
            if (!line.json())
                std::fprintf(stderr, "spacetime distance: pair %zu: %s\n", k + 1, batch[k].error.c_str());
            continue;
        }
        const GeodesicResult& r = batch[k].results[0];
        loose += !r.converged;
        char row[128];
        std::snprintf(row, sizeof row, "%.10g,%.10g,%.3e,%d\n", r.measure.lengthExtrapolated, r.measure.length, r.measure.speedGap, r.converged ? 1 : 0);
        table += row;
        list.push_back({{"distance", r.measure.lengthExtrapolated},
                        {"length", r.measure.length},
                        {"length_doubled", r.lengthDoubled},
                        {"speed_gap", r.measure.speedGap},
                        {"residual", std::isfinite(r.residual) ? json(r.residual) : json(nullptr)},
                        {"converged", r.converged},
                        {"evaluations", r.evaluations},
                        {"seconds", r.seconds}});
    }
    if (line.has("out"))
        writeFile(line.text("out"), table, line.overwrite());
    if (line.json())
        std::cout << json{{"log_snr", logSnr}, {"pairs", list}, {"failed", failed}, {"not_converged", loose}}.dump() << "\n";
    else if (!line.has("out"))
        std::cout << table;
    if (failed > 0 && failed == static_cast<int>(batch.size()) && !InterruptGuard::interrupted())
        throw std::invalid_argument(batch.size() == 1 ? batch[0].error : "no pair has a distance; the first: " + batch[0].error);
    if (failed + loose > 0)
        std::fprintf(stderr, "spacetime distance: of %zu pairs %d have no distance and %d did not converge\n", batch.size(), failed, loose);
    return failed + loose > 0 ? 1 : 0;
}

}  // namespace Spacetime
