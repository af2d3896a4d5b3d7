// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <gtest/gtest.h>
#include <stdexcept>
#include <string>
#include <vector>

/// The action must throw an Exception whose message holds every one of the parts.
template <class Exception = std::invalid_argument>
void expectError(const std::function<void()>& action, const std::vector<std::string>& parts) {
    try {
        action();
    }
    catch (const Exception& e) {
        for (const std::string& part : parts)
            EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << "\"" << e.what() << "\" does not say \"" << part << "\"";
        return;
    }
    FAIL() << "no error, expected one that says \"" << parts[0] << "\"";
}
