"""What a user may pass: rules, checks, and sentences that say what to type instead."""
