//! Tables with a heading, a caption, and parts to turn.

use super::{
    html::Html,
    query::{Query, Sort, Table},
};

/// The head of a column.
pub(super) struct Column {
    title: &'static str,
    is_number: bool,
    /// The address of the view that is sorted by it, and whether this one is.
    sort: Option<(String, bool, Sort)>,
}

impl Column {
    pub(super) fn text(title: &'static str) -> Self {
        Self {
            title,
            is_number: false,
            sort: None,
        }
    }

    pub(super) fn number(title: &'static str) -> Self {
        Self {
            is_number: true,
            ..Self::text(title)
        }
    }

    /// A column that routes can be sorted by.
    pub(super) fn sorted(title: &'static str, query: &Query, sort: Sort) -> Self {
        Self {
            title,
            is_number: sort != Sort::Name,
            sort: Some((query.sorted(sort).address(), query.sort == sort, sort)),
        }
    }

    fn write(&self, html: &mut Html) {
        html.raw("<th scope=\"col\"")
            .raw(if self.is_number { " class=\"n\"" } else { "" });
        let Some((address, is_chosen, sort)) = &self.sort else {
            html.raw(">").raw(self.title).raw("</th>");
            return;
        };
        let ascending = *sort == Sort::Name;
        html.raw(match (is_chosen, ascending) {
            (false, _) => "",
            (true, true) => " aria-sort=\"ascending\"",
            (true, false) => " aria-sort=\"descending\"",
        });
        html.raw("><a href=\"")
            .text(address)
            .raw("#routes\">")
            .raw(self.title)
            .raw("</a>");
        html.raw(match (is_chosen, ascending) {
            (false, _) => "",
            (true, true) => " <span aria-hidden=\"true\">▲</span>",
            (true, false) => " <span aria-hidden=\"true\">▼</span>",
        });
        html.raw("</th>");
    }
}

/// The rows of a table that are shown at a time.
pub(super) struct Part<'a> {
    query: Option<(&'a Query, Table)>,
    index: usize,
    rows: usize,
}

impl<'a> Part<'a> {
    /// The part that the query asks for, the last one where there are not so many.
    pub(super) fn new(query: &'a Query, table: Table, rows: usize) -> Self {
        let last = rows.saturating_sub(1) / ROWS;
        Self {
            query: Some((query, table)),
            index: query.part(table).min(last),
            rows,
        }
    }

    /// All of a table that is never long.
    pub(super) fn all(rows: usize) -> Self {
        Self {
            query: None,
            index: 0,
            rows,
        }
    }

    /// The rows to show.
    pub(super) fn of<'r, T>(&self, rows: &'r [T]) -> &'r [T] {
        rows.chunks(ROWS).nth(self.index).unwrap_or_default()
    }

    fn write(&self, html: &mut Html) {
        let Some((query, table)) = self.query.filter(|_| self.rows > ROWS) else {
            return;
        };
        let (first, last) = (self.index * ROWS + 1, (self.index * ROWS + ROWS).min(self.rows));
        html.raw("<span>").count(first as u64).raw(" to ").count(last as u64);
        html.raw(" of ").count(self.rows as u64).raw("</span>");
        let turns = [
            ("Previous", self.index.checked_sub(1)),
            ("Next", Some(self.index + 1).filter(|next| next * ROWS < self.rows)),
        ];
        for (title, part) in turns {
            if let Some(part) = part {
                html.raw("<a href=\"")
                    .text(&query.turned(table, part).address())
                    .raw("#")
                    .raw(table.as_str());
                html.raw("\">")
                    .raw(title)
                    .raw("<span class=\"muted\"> ")
                    .count(ROWS as u64)
                    .raw("</span></a>");
            }
        }
    }
}

/// Writes a section with one table; `rows` writes its body.
pub(super) fn table(
    html: &mut Html,
    (id, title, about): (&'static str, &'static str, &'static str),
    columns: &[Column],
    part: &Part<'_>,
    rows: impl FnOnce(&mut Html),
) {
    html.raw("<section aria-labelledby=\"")
        .raw(id)
        .raw("\"><h2 id=\"")
        .raw(id)
        .raw("\">")
        .raw(title);
    // Beside the table, not its caption: that would be as wide as the table and scroll with it.
    html.raw("</h2>\n<p class=\"muted\" id=\"")
        .raw(id)
        .raw("-about\">")
        .raw(about);
    html.raw("</p>\n<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-labelledby=\"")
        .raw(id);
    html.raw("\"><table aria-labelledby=\"")
        .raw(id)
        .raw("\" aria-describedby=\"")
        .raw(id);
    html.raw("-about\">\n<thead><tr>");
    for column in columns {
        column.write(html);
    }
    html.raw("</tr></thead>\n<tbody id=\"")
        .raw(id)
        .raw("-rows\" data-live>\n");
    rows(html);
    html.raw("</tbody></table></div>\n<p class=\"pager\" id=\"")
        .raw(id)
        .raw("-part\" data-live>");
    part.write(html);
    html.raw("</p></section>\n");
}

/// Rows of a table that are shown at a time.
pub(super) const ROWS: usize = 100;
