"""The phrases that `make_tickets.py` combines: `{a|b}` is a choice, `<name>` a slot."""

from __future__ import annotations

from calendar import month_name
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phrase:
    """What a customer writes, and how the triage line puts it."""

    body: str
    gold: str


PRODUCTS = (
    "Parcelo",
    "Mailgrove",
    "Tallyhouse",
    "Stackpot",
    "Lumenchart",
    "Nestvault",
    "Quickroster",
    "Fernpay",
)

ISSUES: dict[str, tuple[Phrase, ...]] = {
    "billing": (
        Phrase(
            "{I was charged|You billed me|My card was charged} twice for <month>: <amount>"
            " each time.",
            "charged twice for <month> (<amount>)",
        ),
        Phrase(
            "The <month> invoice {shows|lists|says} <amount>, {but|although} we {agreed on"
            "|signed for} a lower price.",
            "<month> invoice of <amount> is higher than agreed",
        ),
        Phrase(
            "{I never received|I can't find|Nobody sent me} the receipt for {my|our} payment of"
            " <amount> in <month>.",
            "receipt for <amount> in <month> is missing",
        ),
        Phrase(
            "My {card|credit card} was {declined|refused} when I {tried to pay|wanted to pay|paid}"
            " <amount>, {yet|but} the bank says it is fine.",
            "card declined for a payment of <amount>",
        ),
        Phrase(
            "The refund of <amount> that you {promised|approved} in <month> {has not arrived|is"
            " still missing|never reached my account}.",
            "refund of <amount> promised in <month> has not arrived",
        ),
    ),
    "delivery": (
        Phrase(
            "{My|The} <item> from order <order> {has not arrived|is still not here|never came},"
            " {and it is|it's} <days> days late.",
            "<item> of order <order> is <days> days late",
        ),
        Phrase(
            "{I opened|We unpacked} order <order> and the <item> {was broken|was cracked|is"
            " damaged}.",
            "<item> of order <order> arrived damaged",
        ),
        Phrase(
            "{You sent|I received|The box had} the wrong <item> {in|for} order <order>.",
            "wrong <item> delivered with order <order>",
        ),
        Phrase(
            "{Please change|I need to change|Can you change} the address of order <order>:"
            " {we moved|it must go} to <city>.",
            "delivery address of order <order> must change to <city>",
        ),
    ),
    "account": (
        Phrase(
            "{I can't|I cannot|I am unable to} sign in on <device>{.| any more."
            "| since the weekend.}",
            "cannot sign in on <device>",
        ),
        Phrase(
            "The password reset {mail|email} {never comes|does not arrive|is not in my inbox}"
            " {even after|after} <days> days.",
            "password reset mail has not arrived for <days> days",
        ),
        Phrase(
            "{Please|Could you} {add|invite} {my colleague|our new colleague} <person> {to|into}"
            " our account as an <role>.",
            "wants <person> added to the account as <role>",
        ),
        Phrase(
            "<person> {has left|left} {our company|the team} and {is still|is} the <role> of our"
            " account.",
            "<person> left but is still <role> of the account",
        ),
    ),
    "bug": (
        Phrase(
            "The <feature> {crashes|closes itself|freezes} {on|whenever I open it on} <device>"
            " with error <code>.",
            "<feature> crashes on <device> with error <code>",
        ),
        Phrase(
            "{Since the update|After the last update|Since <weekday>} the <feature> is {very|so}"
            " slow on <device>.",
            "<feature> is slow on <device>",
        ),
        Phrase(
            "The <feature> {shows|displays|gives} {wrong|incorrect} numbers for <month>.",
            "<feature> shows wrong numbers for <month>",
        ),
        Phrase(
            "{Nothing happens when I|Nothing happens if I|I see error <code> when I} {save|click"
            " save} in the <feature>{.|, on <device> at least.}",
            "saving in the <feature> does not work",
        ),
    ),
    "security": (
        Phrase(
            "{I got|We received|There was} a {warning about a|notice of a|strange} sign-in from"
            " <city> {that was not me|which nobody here made}.",
            "unknown sign-in from <city>",
        ),
        Phrase(
            "{Somebody|Someone} {sends|is sending} {fake|phishing} {mails|messages} in your name to"
            " <person>.",
            "phishing mails in our name sent to <person>",
        ),
        Phrase(
            "{I lost|Somebody stole} my phone in <city> and {it has|with it} the codes for"
            " two-factor sign-in.",
            "lost the two-factor phone in <city>",
        ),
    ),
    "cancellation": (
        Phrase(
            "{Please cancel|I want to cancel|We would like to cancel} {my|our} <plan> plan at the"
            " end of <month>.",
            "wants to cancel the <plan> plan at the end of <month>",
        ),
        Phrase(
            "{I cancelled|We cancelled} the <plan> plan in <month> and {was|were} {still charged"
            "|billed again} for <amount>.",
            "charged <amount> after cancelling the <plan> plan in <month>",
        ),
        Phrase(
            "{How do I|Where can I|How can I} {close my account|delete my account} {and all my"
            " data|with all the data in it}?",
            "wants the account and its data deleted",
        ),
    ),
    "feature": (
        Phrase(
            "{It would be great if|I wish|It would help if} the <feature> {could be used|worked}"
            " on <device>.",
            "would like the <feature> on <device>",
        ),
        Phrase(
            "{Do you plan|Are there plans for|Is there} {a link|an integration} between the"
            " <feature> and {our|the} <item>?",
            "asks for an integration of the <feature> with the <item>",
        ),
        Phrase(
            "{Could the|Can the} <feature> {send|show} a {reminder|summary} every <weekday>?",
            "would like a weekly <weekday> message from the <feature>",
        ),
    ),
    "praise": (
        Phrase(
            "<person> from your team {solved|fixed|sorted out} {my problem|everything} in <days>"
            " minutes, {thank you|many thanks}!",
            "thanks <person> for help within <days> minutes",
        ),
        Phrase(
            "The new <feature> {saves us|has saved us} <days> hours {a|every} week, {well done"
            "|lovely work}!",
            "happy that the <feature> saves <days> hours a week",
        ),
    ),
}

TRIED = (
    Phrase("{restarted|rebooted} everything", "restarting"),
    Phrase("{cleared the cache|emptied the cache}", "clearing the cache"),
    Phrase("{read|gone through} the help pages", "the help pages"),
    Phrase("{called|phoned} the hotline <days> times", "calling the hotline"),
    Phrase("{written|sent a message} to the chat", "the chat"),
    Phrase("{asked|spoken to} my bank", "asking the bank"),
    Phrase("{tried|used} another computer", "another computer"),
    Phrase("{reinstalled the app|installed the app again}", "reinstalling the app"),
)

REQUESTS = (
    Phrase("{Please call me|Could you phone me} at <hour>.", "wants a call at <hour>"),
    Phrase(
        "{Please answer|I need an answer} before <weekday>.",
        "wants an answer before <weekday>",
    ),
    Phrase("{Please confirm this|Confirm it} in writing.", "wants written confirmation"),
    Phrase("{I want to speak|Let me speak} to {a|your} manager.", "wants to speak to a manager"),
    Phrase("{Who|Which person} is responsible for this?", "asks who is responsible"),
    Phrase("{Please send|Can you send} the {answer|reply} to <person>.", "reply goes to <person>"),
    Phrase("{How long|How many days} will {this|it} take?", "asks how long it takes"),
)

IMPACT = {
    "high": (
        "{Nobody here can work|Our whole team is stuck|We cannot work} until this is {fixed"
        "|solved}.",
        "{We lose|We are losing} {money|customers} every hour.",
        "{This is an emergency|This can't wait|It is really urgent}.",
        "{We have to present|Our audit is|We go live} tomorrow{.| morning.}",
    ),
    "medium": (
        "{It slows us down|It costs us time} every day.",
        "{We can manage for a few days|We have a workaround for now}, {but not longer|not more}.",
        "{It should be|Please have it} {sorted out|settled} this week.",
        "{A few of us|Some colleagues} are {affected|held up}.",
    ),
    "low": (
        "{There is no hurry|No rush|It is not urgent}.",
        "{Whenever you have time|Any time next month} is {fine|good}.",
        "{It is only a small thing|This is a detail|It's a minor thing}.",
        "{I am just asking|I'm only curious}.",
    ),
}

MOOD = {
    "angry": (
        "{This is unacceptable|This is outrageous|I am furious}.",
        "{What kind of service is that|Are you joking}?",
        "{I have had enough|I am really angry}{.|!}",
    ),
    "worried": (
        "{I am worried|I am anxious|I'm concerned} {about this|and don't know what to do}.",
        "{I hope|I do hope} nothing {bad happens|is lost}.",
    ),
    "calm": (
        "{I am sure|No doubt} there is {an easy|a simple} {explanation|answer}.",
        "{I would be grateful for|Thanks for} {any help|a hint}.",
        "",
    ),
    "pleased": (
        "{I love|We really like|I am a fan of} <product> {otherwise|by the way}.",
        "{So far we have been|We are} {very happy|delighted} with {you|the service}.",
    ),
}

OPENINGS = (
    "{Hi|Hello|Dear team|Good morning|Good evening},",
    "{Hello again|Hi there}, I am {writing|getting in touch} about <product>.",
    "{We use|I use|My company uses} <product> {every day|in our office in <city>}.",
    "{A question about|A note on|This concerns} <product>.",
    "<product> {again|customer here|question}:",
)

FILLERS = (
    "{We have been customers|I have been a customer} since <month> <year>.",
    "{My colleague|My manager} <person> {noticed it first|told me to write|asked me about it}.",
    "{We are|We're} a {small|family|growing} {shop|agency|school|bakery|clinic} in <city>.",
    "{I looked at it|It came up} {again|once more} on <weekday> {evening|morning|at lunch}.",
    "{Last year|A while ago|Back in <month>} {we had|there was} {something similar|a similar"
    " case}.",
    "{I am not a technical person|I know little about computers}, so {please keep it simple|bear"
    " with me}.",
    "{You can reach me|I am in the office} {most days|on <weekday>} until <hour>.",
    "{The rest|Everything else} {works|is} {as it should|as usual|fine}.",
    "{I attach|I've attached|You will find} a {screenshot|photo|short video}{.| of it.}",
    "{There are|We have} <people> people {in our team|who use it|on the <plan> plan}.",
    "{I read|I heard} that {others|other customers} {see|have} {the same|this} {as well|too}.",
    "The colors of the {new page|page} are {nice|hard to read}, {by the way|I must say}.",
)

CLOSINGS = (
    "{Thanks|Thank you|Many thanks}, <signature>",
    "{Best regards|Kind regards|Regards}, <signature>",
    "<signature>",
    "",
)

SLOTS: dict[str, tuple[str, ...]] = {
    "month": tuple(month_name[1:]),
    "weekday": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday"),
    "item": ("card reader", "label printer", "router", "starter kit", "scanner", "display"),
    "city": ("Leeds", "Porto", "Graz", "Tampere", "Austin", "Ghent", "Lyon", "Bergen", "Cork"),
    "device": ("my phone", "my tablet", "Firefox", "Chrome", "the desktop app", "Safari"),
    "person": ("Maya", "Jonas", "Priya", "Tom", "Elena", "Yusuf", "Hanna", "Diego", "Ruth", "Ken"),
    "signature": ("A. Meyer", "R. Okafor", "Lena", "S. Patel", "Marco", "J. Silva", "Nora", "Ben"),
    "role": ("editor", "owner", "administrator", "approver"),
    "feature": ("calendar", "report page", "export", "search", "dashboard", "import", "editor"),
    "code": ("E17", "E42", "T300", "503", "X9", "418"),
    "plan": ("team", "starter", "family", "business", "premium"),
    "year": ("2021", "2022", "2023", "2024", "2025"),
    "hour": ("9 am", "10 am", "noon", "2 pm", "3 pm", "5 pm"),
}

BRITISH = {"colors": "colours", "Thanks,": "Cheers,", "A while ago": "Some time ago"}
