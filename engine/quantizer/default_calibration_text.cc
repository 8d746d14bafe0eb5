#include "engine/quantizer/calibration.h"

namespace comet {

// Written for this project, under its licence. Several kinds of text, since a channel that only
// code or only figures excite would otherwise look quiet.
std::string_view DefaultCalibrationText() {
  return R"TEXT(The harbour at Lindholm freezes for eleven weeks in an ordinary winter, and in those weeks the town lives by its own stores. Flour comes in October, paraffin in November, and whatever has been forgotten stays forgotten until the ice goes out in March. Old people judge a new neighbour by his woodpile. A careful man stacks birch against the south wall, bark side up, and leaves a hand's width between the rows so that the wind can do half of the drying.

Marta had kept the chandlery since her father's death. She knew every skipper's account by heart, and she wrote them all down anyway, because memory, she said, is honest but not exact. When the ferry company offered to buy the building, she asked for three days to think. On the third day she walked out on the ice with the surveyor's map under her arm and came back with a single question: who would repair the pier?

"We would, naturally," the agent said. "It is in the contract, paragraph nine."

"Paragraph nine says you may. I can read. I am asking who will."

He laughed, then saw that she was not joking, and put down his cup. "All right. What would make you believe it?"

"Timber. On the quay, before the thaw. Forty oak piles, not pine."

The story is told differently on the other side of the bay, where they say that the piles were pine after all and that nobody ever noticed. Both versions agree that the pier still stands.

How does a heat pump move warmth from a cold place to a warm one? It does not create heat; it carries it. A liquid with a very low boiling point evaporates in the outdoor coil, and evaporation takes energy from the air around it, even when that air is below freezing. A compressor then squeezes the vapour, which raises its temperature, and the indoor coil lets it condense and give the energy back. For every unit of electricity the compressor uses, three or four units of heat arrive indoors. The ratio falls as the difference in temperature grows, which is why insulation and large radiators matter more than the size of the machine.

Three rules make most measurements better. First, write down the conditions before you write down the result: the date, the instrument, its last calibration, the temperature of the room. Second, measure the same thing at least three times, and report the spread together with the mean. Third, decide what would change your mind before you look at the numbers. None of these rules is difficult, and all of them are skipped when people are in a hurry.

User: Can you explain what a hash table is, in simple terms?
Assistant: Of course. Imagine a wall of numbered pigeonholes. To store a letter, you compute a number from the name on it and put it into the pigeonhole with that number. To find the letter again, you repeat the same computation and look into only one hole instead of searching the whole wall. Two names may lead to the same hole; then that hole holds a short list, and you compare the names one by one. As long as there are enough holes and the computation spreads the names evenly, each search takes about the same short time.
User: What happens when the wall gets full?
Assistant: You build a larger wall, usually twice the size, and move every letter to its new place. That is slow, but it happens rarely, so the average cost per letter stays small.

```python
def moving_average(values, window):
    """Yields the mean of each run of `window` consecutive values."""
    if window <= 0:
        raise ValueError(f"window must be positive, got {window}")
    total = 0.0
    for index, value in enumerate(values):
        total += value
        if index >= window:
            total -= values[index - window]
        if index >= window - 1:
            yield total / window


if __name__ == "__main__":
    readings = [3.2, 4.1, 5.0, 4.8, 4.4, 3.9]
    print(list(moving_average(readings, window=3)))
```

```c
/* Returns the number of set bits; each round clears the lowest one. */
static int count_bits(unsigned long word) {
  int count = 0;
  while (word != 0) {
    word &= word - 1;
    ++count;
  }
  return count;
}
```

SELECT customer_id, COUNT(*) AS orders, SUM(total) AS revenue
FROM orders WHERE created_at >= '2023-01-01' GROUP BY customer_id HAVING SUM(total) > 500 ORDER BY revenue DESC LIMIT 20;

{"name": "sensor-17", "location": {"lat": 59.3293, "lon": 18.0686}, "readings": [21.5, 21.7, null, 22.0], "active": true}

Table 2. Mean rainfall in millimetres. January 64, February 51, March 47, April 43, May 52, June 71, July 83, August 79, September 68, October 74, November 72, December 66. The annual total of 770 mm is 4.1 % above the average of the previous thirty years; the wettest single day, 14 July, brought 58.2 mm.

If a train leaves at 9:40 and travels 210 kilometres at an average of 84 kilometres per hour, it arrives after 2.5 hours, that is, at 12:10. If it stops twice for six minutes, it arrives at 12:22. The square of 17 is 289, and 289 - 144 = 145. Let f(x) = 3x^2 - 12x + 7; then f'(x) = 6x - 12, so the minimum lies at x = 2, where f(2) = -5.

The capital of Portugal is Lisbon. The capital of Kenya is Nairobi. The largest planet of the solar system is Jupiter, and the smallest is Mercury. Water boils at 100 degrees Celsius at sea level. The heart of an adult beats about seventy times a minute at rest. The Baltic Sea is less salty than the Atlantic because many rivers flow into it and little water leaves. Shakespeare wrote both tragedies and comedies; Beethoven composed nine symphonies; Marie Curie received two Nobel Prizes, one in physics and one in chemistry.

Dear Ms. Okafor,

Thank you for your letter of 3 May. We have checked the invoice and agree that the second delivery was charged twice. The difference, $148.60, will be returned to your account within ten working days. We apologise for the trouble and have asked our warehouse to mark split deliveries more clearly. Please do not hesitate to call us if anything else is unclear.

Yours sincerely,
J. Brandt, Customer Accounts

To make bread for two days, mix 500 g of strong flour with 350 g of water, 10 g of salt and 3 g of dry yeast. Stir until no dry flour is left, cover the bowl, and let it rest for twelve hours. Fold the dough four times on a floured board, shape it without pressing out the air, and let it rise for another hour. Bake at 240 °C for twenty minutes with a cup of hot water in the oven, then at 210 °C for twenty more, until the crust sounds hollow when tapped.

It rained on the morning of the election, a fine grey rain that found its way under collars, and still the queue reached around the school and past the baker's. People were patient. A boy sold umbrellas at twice their price until his mother came and made him give some of the money back. By noon the sky had cleared. "Whatever happens tonight," said the man in front of me, folding his newspaper, "we did at least stand here together, and I have not spoken so much with my neighbours since the flood."

Why do languages change? Children never hear the whole of what their parents know; they rebuild the system from samples, and each generation rebuilds it a little differently. Sounds that are hard to tell apart merge, endings wear down, and words are borrowed together with the things they name. Writing slows the process but does not stop it. A text of six hundred years ago can be read with a dictionary and some patience; a text of twelve hundred years ago must be learned like a foreign tongue.

ERROR 2023-06-11T04:17:52Z worker-3 connection to db-primary:5432 lost after 30000 ms, retrying (attempt 2 of 5)
INFO  2023-06-11T04:17:54Z worker-3 connection restored, 128 queued jobs resumed
See https://example.org/docs/retry#backoff for the settings, or run `service status --verbose` on the host.

In spring the ice breaks with a noise like carts on cobblestones. Children are kept away from the shore, and the dogs are nervous for a week. Then, one morning, the water is simply there again, black and moving, with gulls on it, and somebody rings the bell at the customs house although there is no longer any rule that says one must.
)TEXT";
}

}  // namespace comet
