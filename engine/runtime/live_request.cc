#include "engine/runtime/live_request.h"

#include <utility>

namespace comet {

LiveRequest::LiveRequest(Submission from)
    : submission(std::move(from)),
      num_prompt_tokens(static_cast<int>(submission.request.prompt_ids.size())),
      num_unfinished(submission.request.num_choices) {
  Request& request = submission.request;
  const auto params = std::make_shared<const SamplingParams>(std::move(request.sampling));
  const std::vector<int> prompt_ids = std::move(request.prompt_ids);
  for (int i = 0; i < request.num_choices; ++i) {
    SequenceSampling sampling(params, submission.seed, i, request.num_top_logprobs, prompt_ids);
    auto choice = std::make_unique<LiveSequence>(
        LiveSequence{.request = *this, .choice_idx = i, .sampling = std::move(sampling)});
    Sequence& sequence = choice->sequence;
    sequence.sequence_id = submission.first_sequence_id + i;
    sequence.priority = request.priority;
    sequence.arrival = submission.arrival;
    sequence.deadline = submission.deadline;
    sequence.num_tokens_max = submission.num_tokens_max;
    sequence.token_ids = prompt_ids;
    choices.push_back(std::move(choice));
  }
}

}  // namespace comet
