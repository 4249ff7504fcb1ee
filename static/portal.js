/* Daypass: what JavaScript adds to pages that work without it. */
