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
    assert len(TABLE) >= 80


def test_odd_texts_ask_for_a_span() -> None:
    assert {kind_of(text) for text in ("?", "", "  ", "," * 5000, "is", "a" * 9999)} == {"span"}
