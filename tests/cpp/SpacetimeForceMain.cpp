// SPDX-License-Identifier: MIT
// The main function of TestSpacetimeForce: finds the platform that is to be tested.
#include "SpacetimeForceTest.h"
#include <cstdlib>
#include <iostream>

using namespace OpenMM;
using std::string;

TestedPlatform tested;

// What ctest counts as skipped.
static const int SKIPPED = 77;

static void findPlatform(const string& name, const string& precision) {
    const string plugins = SPACETIME_OPENMM_PLUGINS, own = SPACETIME_PLUGINS;
    if (name != "Reference")
        Platform::loadPluginLibrary(plugins + "/libOpenMM" + name + ".so");
    Platform::loadPluginLibrary(own + "/platforms/reference/libOpenMMSpacetimeReference.so");
    if (name != "Reference" && name != "CPU")
        Platform::loadPluginLibrary(own + "/platforms/common/libOpenMMSpacetime" + name + ".so");
    tested.platform = &Platform::getPlatform(name);
    tested.isReference = (name == "Reference" || name == "CPU");
    tested.isDouble = (tested.isReference || precision == "double");
    if (!tested.isReference)
        tested.properties["Precision"] = precision;
    // A platform may be there, but no device.
    System system;
    system.addParticle(1.0);
    VerletIntegrator integrator(0.001);
    Context context(system, integrator, *tested.platform, tested.properties);
}

int main(int argc, char** argv) {
    ::testing::InitGoogleTest(&argc, argv);
    if (argc < 2) {
        std::cerr << "usage: TestSpacetimeForce Reference|CPU|OpenCL|CUDA|HIP [single|mixed|double] [--gtest_...]" << std::endl;
        return 2;
    }
    const string name = argv[1], precision = (argc > 2 ? argv[2] : "single");
    try {
        findPlatform(name, precision);
    }
    catch (const std::exception& e) {
        const char* required = std::getenv("SPACETIME_REQUIRED_PLATFORMS");
        bool isRequired = (required != nullptr && ("," + string(required) + ",").find("," + name + ",") != string::npos);
        std::cerr << name << ": " << e.what() << (isRequired ? " (it is required)" : " (skipped)") << std::endl;
        return isRequired ? 1 : SKIPPED;
    }
    return RUN_ALL_TESTS();
}
