from evforge.cli.docs import argument_docs, description, summary


def test_argument_docs_join_continued_lines():
    def function(first, second):
        """Head.

        Args:
            first: a text
                over two lines
            second: another

        Returns:
            nothing: at all
        """

    assert argument_docs(function) == {"first": "a text over two lines", "second": "another"}


def test_summary_and_description_leave_out_the_arguments():
    def function(first):
        """Head.

        Body over
        two lines.

        Args:
            first: a text
        """

    assert summary(function) == "Head."
    assert description(function) == "Head.\n\nBody over\ntwo lines."
    assert (summary(lambda: None), description(lambda: None)) == ("", "")
