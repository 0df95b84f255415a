// What a matching rule counts for. Uses the stage's `groups`, `term_rules` and `verdicts`.

// Whether no kernel may count the term's rule, because a residual or another of its terms has a say as well.
fn is_returned(term: u32) -> bool {
    return extractBits(groups[term / LANES - launch.first_group].returned, term % LANES, 1u) == 1u;
}

fn rule_of(term: u32) -> u32 {
    return term_rules[term - launch.first_group * LANES];
}

// Lists name every rule; whatever decides counts live rules only.
fn is_counted(rule: u32) -> bool {
    return launch.output == OUTPUT_LISTS || verdicts[rule].live == 1u;
}
