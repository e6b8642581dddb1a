// Candidates in order of decreasing logit, the lower id first among equals: what a comparison sort of
// them gives, in time that does not grow with n log n. For input that is in order of id, or in this
// order already; logits are not NaN.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "models/sampling.h"

namespace venturi {

// The order itself.
bool comes_first(const Sampler::Candidate& a, const Sampler::Candidate& b);

// Sorts. `scratch` grows to the size of candidates.
void sort_candidates(std::span<Sampler::Candidate> candidates, std::vector<Sampler::Candidate>& scratch);

// Brings candidates that come first to the front, in the order in which they stand, and returns how
// many: a few more than hold `mass` of the probability (all, should rounding leave the sum below it).
size_t bring_forward(std::span<Sampler::Candidate> candidates, double mass,
                     std::vector<Sampler::Candidate>& scratch);

}  // namespace venturi
