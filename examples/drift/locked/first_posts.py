"""The posts that the archive begins with, oldest first; a run's kept posts follow them.

They were written for this example, and their measurements are for illustration. To go on with a voice of your own,
put your last posts in their place: Markdown, separated by a line of equals signs.
"""

TEXT = """\
# A kitchen scale drifts while you watch

I left a 500 g brass weight on my kitchen scale for an hour and wrote down the display every ten minutes. It began
at 500 g. After 20 minutes it said 501 g, and at the end 503 g. The weight had not changed, and neither had the
room.

The load cell in a cheap scale is a strip of metal that bends. Under a steady load it keeps bending a little, which
is called creep. The scale takes that for flour.

Dough takes me 15 minutes, and I add water in four steps. If I press tare before each step, the creep starts again
from zero. I tried this with the brass weight: four readings, all within 1 g. The same scale was three times better
because I touched a button. The manual from Soehnle mentions tare on page 4 and creep nowhere.
===
# Three tape measures, one door

My door is 2,013 mm high by the steel tape from my father, 2,011 mm by the yellow one from Stanley and 2,016 mm by
the cloth tape in the sewing box. Nobody ordered a door of three heights.

The cloth tape was easy to explain. I laid it along the steel tape and found 3 mm missing in two metres, so it had
stretched. A stretched tape reads too little, yet this one had read too much. I had pulled it less tight at the
door, and it sagged.

The other two differ at the hook. The hook of a tape slides by its own thickness, about 1 mm, so that it is right
when you push and when you pull. On the yellow tape the rivets had worn and it slid by 3 mm. I now start at the 100
mm mark and take 100 off. The two tapes then agree to half a millimetre.
===
# How late the 7:42 is

For 60 working days I wrote down when the 7:42 train from Gera left. The railway counts it as punctual up to five
minutes, and by that rule it was punctual on 55 days. By my watch the mean delay was 2.8 minutes and the median was
1.5.

Those two numbers differ because the delays are not spread evenly. On 41 days the train left within two minutes, and
on three days it was more than 20 minutes late. Three days make up 40 % of all the minutes I waited.

I used to leave home with four minutes to spare. Half of that would do on most days, and ten would not be enough on
the bad ones. So I now leave with two minutes and carry a book. Anna, who takes the same train, leaves with fifteen
and reads the same number of pages.
===
# The oven is right twice an hour

I put a thermocouple in the oven, set the dial to 180 and logged it for two hours. The mean was 181 degrees, which
is better than I had hoped. The range was 158 to 204.

An oven like mine, a Bosch from 2009, knows only on and off. It heats until the sensor is above the mark, then waits
until it is well below. One cycle took 14 minutes. A tray of biscuits takes 11, so a batch can meet mostly the peak
or mostly the trough.

I tested that with two trays. The one that went in just after the lamp went off came out pale, and the one that went
in as it came on was brown at the rim. Now I put a stone of 4 kg on the lower shelf. With the stone the range was
171 to 190, because the stone gives back heat while the element rests.
===
# Counting rain with a jam jar

A jar with straight walls is a rain gauge. Mine is 74 mm wide all the way up, and a ruler against the glass gives
the rain in millimetres, with no arithmetic. In October the jar caught 61 mm, and the station at the airport
reported 78 mm.

The airport is 9 km away, so some of that may be weather. Most of it was the wall. My jar stood 50 cm from the shed,
and with wind from the west the shed kept the rain off. I moved it to the middle of the lawn, and in November the
jar had 52 mm and the airport 55 mm.

The rule in the [handbook](https://en.wikipedia.org/wiki/Rain_gauge) is to stay away from a thing by twice its
height. My shed is 2.3 m high and the lawn is 8 m wide. There is one spot that obeys the rule, and Tom keeps his
trampoline on it.
===
# What a step is

My phone said 8,412 steps on Sunday and the watch of my sister said 9,760. We had walked the same path around the
lake side by side. One of us would have had to hop.

We walked 500 steps again and counted aloud. The phone in my pocket found 496. In my hand, while I read a map, it
found 431, because a hand that holds a map is held still. The watch found 507 on the path and then added 38 while
Eva ate an ice cream on a bench.

So the errors are not noise. The phone loses steps when I read, and the watch gains them when she eats. A mean of
the two would be right only if we read and ate in proportion. I now count one lap by hand, 3,120 steps, and multiply
by the number of laps.
===
# The bathroom scale likes the corner

Standing on the tiles I weigh 78.4 kg. On the mat I weigh 74.9 kg, and with the scale half on a joint I weigh 79.6
kg. I tried each spot ten times, and the spread within a spot was never more than 0.3 kg.

That is a scale that repeats well and is wrong in four ways. Repeating is what most people check, because it takes
no second scale. I took 20 bottles of water, a litre each, and put them on in fives. On the tiles the steps were
5.0, 5.0, 5.1 and 4.9 kg. On the mat the first step was 3.8 kg.

A mat lets the feet of the scale sink, and then the belly of the case carries part of the load. The scale now lives
in the corner by the window, where Karl found the flattest tile with a marble.
===
# A candle is a poor clock

King Alfred is said to have told the time by candles, six of them a day. I burned five candles of one box on the
kitchen table and marked the time for each centimetre.

The mean was 31 minutes for a centimetre. The slowest candle took 36 and the fastest 27, so an hour by one candle is
45 minutes by another. The first centimetre was always slower than the second, by three minutes or so, since the
pool of wax has to melt first.

Then I opened the window. With a draught that I could hardly feel, the same box gave 22 minutes, because wax ran
down the side and was lost. Alfred put his candles in lanterns of thin horn. It says so in the life that Asser
wrote, and I had taken it for decoration. With a jar around them my candles stayed within two minutes of each other.
===
# My kettle, in kilowatt hours

The label under my kettle says 2,200 watts. The meter at the socket says 2,060, and the voltage in our house is 231
volts, so the label is not a lie about the wall. The element has been heating hard water for six years.

One litre from the tap is at 14 degrees in March. To boil it takes 360 kilojoules by the book, which is 0.100 kWh. I
measured 0.113 kWh for one litre and 0.071 for half a litre. Twice the half would be 0.142, so boiling in two goes
costs a quarter more.

The rest goes into the kettle itself, the steam and the click. Mine clicks off 11 seconds after the water boils. At
2,060 watts that is 0.006 kWh each time, or 3 kWh in a year of tea. Marta lifts the lid when she hears it boil and
saves half of that.
===
# Ten people read one thermometer

At the allotment there is a glass thermometer with a mark for each degree. I asked ten people to read it within five
minutes and to give me tenths. The lowest said 21.2 and the highest 22.1.

The mean was 21.6 and the standard deviation was 0.3. That is a third of a mark, from people who could see the same
thread of red spirit. Seven of the ten gave an even tenth. Nobody said 21.7, which a digital one beside it showed
all the time.

Height mattered more than care. Uwe is 1.95 m tall, looked down on the glass and read 21.2. The two children looked
up and read more than 22. The thread stands 4 mm in front of the scale, and the eye draws the line on. I hung it
lower, at 1.5 m, and asked the same ten again. The standard deviation fell to 0.15.
===
# Four stopwatches and a dropped spoon

We dropped a spoon from the balcony, 6.1 m, and four of us took the time. By the formula the fall takes 1.12
seconds. We got 1.31, 1.24, 0.98 and 1.27 on the first drop.

Over 20 drops each, Jonas had a mean of 1.26 and a spread of 0.05. He reacts to both ends, and if the delays were
equal they would cancel. They are not equal, since he saw the hand open late and heard the clang at once. Lea had a
mean of 1.10 with a spread of 0.14. She guessed when the hand would open.

So Lea was nearer the truth, and Jonas was the better instrument. A constant error of 0.14 seconds can be taken off,
and a spread cannot. We corrected his times and dropped the spoon from the roof. It gave 9.4 m, and the plan of the
house says 9.3.
===
# Where the millimetre begins

The wooden ruler from school begins at its end, and the end is worn. I measured the same matchbox ten times from the
end and got 53.2 mm. From the 10 mm mark I got 52.5. The calliper said 52.5 too.

Seven tenths of a millimetre is what 30 years in a pencil case did to the edge. On a shelf of 800 mm nobody would
see it. I had cut eight strips for a lid, each marked off from the end, and side by side they left a gap. Eight
times 0.7 is 5.6 mm, and the gap was 6.

An error that is always the same does not fade with repeats. It adds. Had I made eight cuts with errors that go both
ways, the gap would have been about two millimetres. Now I begin all lengths at 10, and Paul has drawn a red line
there.
"""
POSTS = tuple(
    (f"first-{number:02}", text.strip().encode() + b"\n") for number, text in enumerate(TEXT.split("===\n"), start=1)
)
