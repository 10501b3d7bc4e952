import pytest

from mixrag.corpus.parsers.latex import plain, read_latex


def blocks(source):
    (document,) = read_latex(source.encode(), "a.tex").documents
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def test_structure():
    source = r"""\documentclass{article}\title{Harbour \emph{dues}}\author{Orla}
\begin{document}\maketitle
\section{Ships \& rafts}\label{a} A raft.% secret
% secret

\subsection*{Lists}
\begin{itemize}
 \item one
 \begin{enumerate}\item in\item[b)] two\end{enumerate}
 \item last
\end{itemize}
\begin{verbatim}
% shown \section{x}
\end{verbatim}
end\end{document} junk"""
    assert blocks(source) == [
        ("heading", "Harbour dues"),
        ("text", "Orla"),
        ("heading", "Ships & rafts"),
        ("text", "A raft."),
        ("heading", "Lists"),
        ("list", "- one\n  1. in\n  b): two\n- last"),
        ("code", "% shown \\section{x}"),
        ("text", "end"),
    ]
    (document,) = read_latex(source.encode(), "a.tex").documents
    assert document.title == "Harbour dues"
    assert [block.level for block in document.blocks if block.kind == "heading"] == [1, 2, 3]


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (r"9\,\% of \textbf{all \textit{dues}}", "9 % of all dues"),
        (r"caf\'e Stra\ss e \"{U}ber \c{c}a \v Skoda", "café Straße Über ça Škoda"),
        (r"``so'' -- and --- so~on\ldots", "“so” – and — so on…"),
        (r"$10^6$ and \(a\_b\alpha\)", r"$10^6$ and \(a\_b\alpha\)"),
        (r"old~\cite[p.~3]{berg}", "old [berg]"),
        (r"fee\footnote{in \emph{May}} due", "fee (in May) due"),
        (r"\href{http://x}{the site} \url{http://y}", "the site http://y"),
        (r"\vspace{2mm}x\label{l}\includegraphics[width=1cm]{a.png}", "x"),
        (r"costs \$5 {\bf now} 50\%", "costs $5 now 50%"),
        ("open { brace $ and dollar", "open  brace $ and dollar"),
    ],
)
def test_commands_give_their_text(source, shown):
    assert plain(source) == shown


def test_tables():
    source = r"""\begin{table}\caption{Dues in \emph{crowns}}\begin{tabular}{l|rr}\hline
 Ship & 2023 & 2022 \\ \hline
 Raft & 9 & A \& B \\ \cline{1-2}
 \multicolumn{2}{c}{both} & 7\\[2pt]
\end{tabular}\end{table}"""
    assert blocks(source) == [
        ("text", "Dues in crowns"),
        ("table", "Ship: Raft | 2023: 9 | 2022: A & B\nShip: both | 2022: 7"),
    ]


def test_equations_stay_as_source():
    source = "Energy\n\\begin{equation}E = \\frac{m}{2}\\end{equation}\nand \\[a & b\\] too."
    assert blocks(source) == [
        ("text", "Energy\n\\begin{equation}E = \\frac{m}{2}\\end{equation}\nand \\[a & b\\] too."),
    ]


@pytest.mark.parametrize(
    "piece", ["\\begin{itemize}", "{", "$", "\\section{", "\\begin{tabular}", "\\item ", "\\[", "\\"]
)
def test_broken_files_are_read(piece):
    assert "first" in blocks(f"first {piece * 2000} last")[0][1]
