// SPDX-License-Identifier: MIT
#include "Commands.h"
#include "spacetime/Version.h"
#include <iostream>
#include <stdexcept>

namespace {

struct Command {
    const char* name;
    int (*run)(const std::vector<std::string>&);
    const char* summary;
};

const Command commands[] = {{"train", Spacetime::runTrain, "train a denoising network on weighted samples"},
                            {"geodesic", Spacetime::runGeodesic, "shortest curve between two states in a model's spacetime"},
                            {"sample", Spacetime::runSample, "drive a molecule along a curve, many times"},
                            {"distance", Spacetime::runDistance, "Fisher-Rao distances between pairs of states"},
                            {"measure", Spacetime::runMeasure, "length, energy and consistency of a curve under a model"},
                            {"encode", Spacetime::runEncode, "clean data to latent points, by the probability-flow ODE"},
                            {"decode", Spacetime::runDecode, "latent points back to data"},
                            {"density", Spacetime::runDensity, "geodesics of the probability density itself, from scores at one noise level"},
                            {"info", Spacetime::runInfo, "what a model, curve, density path or samples file holds"}};

void printUsage(std::ostream& out) {
    out << "spacetime " << SPACETIME_VERSION << ": geodesics in the spacetime of diffusion models\n\nUsage: spacetime COMMAND [options]\n\n";
    for (const Command& c : commands)
        out << "  " << std::string(c.name) + std::string(12 - std::string(c.name).size(), ' ') << c.summary << "\n";
    out << "\nspacetime COMMAND --help lists the options of a command.\n"
           "Exit codes: 0 done; 1 not converged, fewer than 30 effective samples on the curve, or not all paths complete (the result is written); 2 bad input.\n";
}

}  // namespace

int main(int argc, char** argv) {
    std::vector<std::string> words(argv + 1, argv + argc);
    if (words.empty()) {
        printUsage(std::cerr);
        return 2;
    }
    if (words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
        printUsage(std::cout);
        return 0;
    }
    if (words[0] == "--version") {
        std::cout << SPACETIME_VERSION << "\n";
        return 0;
    }
    try {
        for (const Command& c : commands)
            if (words[0] == c.name)
                return c.run({words.begin() + 1, words.end()});
        std::cerr << "spacetime: no command '" << words[0] << "'; expected train, geodesic, sample, distance, measure, encode, decode, density or info\n";
        return 2;
    }
    catch (const std::exception& e) {
        // One line, whatever was thrown: what, where, what to do.
        std::cerr << "spacetime " << words[0] << ": " << e.what() << "\n";
        return 2;
    }
}
