"""What is asked for, by a table of questions."""

from __future__ import annotations

import pytest

from mixrag.answers.kinds import kind_of

YES_NO = """
Is the fishing licence free?
Are visitors allowed in the archive?
Was the bridge closed in 1931?
Were the minutes ever published?
Do I need a permit to sell fish?
Does the fee include the rod?
Did the council approve the budget?
Has the reactor been inspected this year?
Have the rules changed?
Had the mayor resigned before the vote?
Can a minor open an account?
Could the deposit be refunded?
May a member vote by letter?
Might the fee rise?
Must the owner be present?
Should the dose be halved for children?
Will the office open on Sunday?
Would a copy be enough?
Isn't the harbour closed in winter?
Aren't dogs allowed?
Can't the fee be waived?
Doesn't aspirin lower fever?
The licence is valid for a year, isn't it?
You need two witnesses, right?
Members may vote twice, can they?
Please, is the ferry running?
Can you tell me whether the ferry runs on Sunday?
In 2019, did the bank pay a dividend?
If the tenant dies, does the lease end?
Is it two years or more since the last audit?
Does the act say who pays the fee?
The contract began in 2019. Is it still valid?
Are there any exceptions to the rule?
Is metformin safe in pregnancy?
do mitochondria play a role in remodelling lace plant leaves
can two people have an account together
am I allowed to bring my dog
I only work in Corvane, can I join the union?
I'm 70. Can I stay?
is it ok to take it with milk?
Any chance I can pay later?
do i have to pay if i am under 16
so is it free or not?
Hi, is the office open on saturdays
I live on Orrin, do I have to pay for the launch?
Does it matter whether the wool is washed?
If I lose it, can I get another one?
My boat is 9 metres long; does the policy cover it?
Tell me if the archive is open on Sundays
it's free, right?
Rent, is it deductible?
"""
LIST = """
Which documents are required for a licence?
Which of the islands are inhabited?
What are the three types of membership?
What are the duties of the clerk?
What are all the fees that a visitor pays?
What were the causes of the fire named in the report?
What types of vessel need a permit?
What kinds of fish are protected?
Which three towns signed the treaty?
What two gases are measured?
List the members of the board.
List all exemptions
Please list the fees.
Name the three rivers.
Name all the islands of the county.
Give me a list of the permits.
Who are the trustees?
Who were the founders of the bank?
Can you list the side effects?
Could you please name all members?
For which vessels are permits needed?
In which months are the lakes frozen?
Enumerate the stages of the trial.
Under the act, what are the penalties?
which documents do I need for a licence
Which forms do I have to fill in?
which days does the midwife visit
which judges heard the case
which islands have no ferry?
Which countries signed the treaty?
Which medicines must not be combined with it?
what documents do i need
what papers should I bring
what are the opening days
what're the side effects of pelindrate
whats the list of fees
who's in the crew
name the members of the board
name the islands
Name all people who signed
tell me the names of the trustees
tell me all the fees
Can you give me all the deadlines?
what are some examples of permitted gear
I need a list of the fees
I'd like a list of the permits
which fees apply to visitors
What exceptions are there?
what side effects does it have?
what symptoms should I look for
Which of these are free?
which of the licences can be sold
"""
EXTRACT = """
Explain the appeal procedure.
Please explain how the levy is computed.
Can you explain the second article?
Summarise the report.
Summarize chapter three
Describe the treatment of the control group.
Why was the bridge closed?
Why do the fees differ?
How does the lottery work?
How do I apply for a licence?
How is the fee calculated?
How are the votes counted?
How did the fire start?
How can a member leave?
How to renew a permit
How should the vaccine be stored?
How come the office is closed?
Outline the main findings.
Give me a summary of the minutes.
Tell me about the harbour.
Compare the two plans.
According to the report, why did the dam fail?
how do i apply for a permit
How do I go about selling fish
what's the procedure for an appeal
what is the process for renewing
What happens if I miss the deadline?
what should I do if I lose my card
what do I have to do to register
Could you summarise article 5 for me?
summary of the report
give me an overview of the fees
I'd like an explanation of the levy
Walk me through the application
tell me everything about ossel root
tell me all about the tidal account
what do you know about the tidal account
explain the difference between class A and B
what is the difference between a permit and a licence
in short, what does the act say about dogs
how's the fee calculated
tldr of the judgment
Can you walk me through the appeal?
help me understand the levy
briefly, how does the lottery work
"""
SPAN = """
About how many people live in Skarv?
About what time does the ferry leave?
Tell me the fee for a licence.
List price of the boat?
Who issues the fishing licence?
What does the licence cost?
When was the bridge built?
Where is the archive?
How much is the fee?
How many members has the board?
How long is the trial period?
How far is the island from the coast?
How old is the reactor?
How often does the board meet?
How tall is the tower?
How high was the flood?
How is the treaty called?
How do you spell the founder's name?
Is the fee nine or ten crowns?
Does the board meet weekly or monthly?
Was it Vane or Ashby who signed?
Is there a fee, and how much is it?
Which office issues the permit?
What is the name of the ship?
In which year was the bank founded?
What percentage of patients recovered?
Name the capital of the county.
Name the ship.
The fee of a visitor is what?
What is a dividend?
May 2019 saw which vote?
What was the temperature in the second trial?
Whose signature is required?
To whom is the report sent?
Wer stellt den Schein aus?
class D fee
fishing licence cost
Can you tell me who issues the permit?
The ship sank when?
What continent are the islands part of?
In which year were the fees raised?
how much do i pay
how soon must I report it
whats the fee for class b
what are the odds of winning
which bus goes to the harbour
which process was used?
which gas is used?
which class is my boat?
which series is it
what status does it have
who do i call
name the judge who dissented
give me the phone number
show me the price
which form do I need
which court hears disputes?
Which clinic treats it?
Which office issues permits?
which costs more
which comes first?
what happens on 30 April 2024
what does W-5 stand for
what causes brine palsy
what is brine palsy
what makes the powder spoil
how is brine palsy also called
how's the boat called
Who's the landlord's representative?
who's the chair
who is on the 20 talm note
Which address do I write to
what basis is used
which business issued it?
how old do I have to be to vote
which was the largest?
which news was published?
What's the dose for adults?
which species is it?
whose boats are they
what does the deposit registry do
what does the bus cost
Which fee, if any, does the visitor pay?
in which year was the fee, if any, raised
name the boss
Name the clinic for nerves
what is the purpose of the levy
what is the reason for the delay
what does the launch carry
what time does the clinic open on Tuesdays
What kind of chloroplasts do diatoms have?
What happens to the deposit?
Which sales office is open?
When was the note, which shows a lighthouse, issued?
When did they find that the ship, which carries salt, sank?
"""
TABLE = [
    (kind, question)
    for kind, questions in (("yes-no", YES_NO), ("list", LIST), ("extract", EXTRACT), ("span", SPAN))
    for question in questions.strip().splitlines()
]


@pytest.mark.parametrize(("kind", "question"), TABLE)
def test_kind_of_a_question(kind: str, question: str) -> None:
    assert kind_of(question) == kind


def test_the_table_is_large_enough() -> None:
    assert len(TABLE) >= 200 and len(TABLE) == len(set(TABLE))


def test_odd_texts_ask_for_a_span() -> None:
    assert {kind_of(text) for text in ("?", "", "  ", "," * 5000, "is", "a" * 9999)} == {"span"}
