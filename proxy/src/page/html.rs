//! HTML text in which only literals are markup.

/// A text under construction. What is not a literal of this program goes through [`Html::text`].
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup of this program.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Text of anybody, as content or as a quoted attribute. Markup becomes text; control characters, and those that turn
    /// the direction of writing, become visible.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                _ if is_unseen(character) => self.0.extend(character.escape_unicode()),
                _ => self.0.push(character),
            }
        }
        self
    }

    /// A number.
    pub(super) fn count(&mut self, count: u64) -> &mut Self {
        self.0.push_str(itoa::Buffer::new().format(count));
        self
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }
}

/// Control characters, and those that change how their neighbours are shown (UAX #9; UTR #36 on spoofing).
fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_markup_and_never_unseen() {
        let mut html = Html::default();
        html.raw("<b title=\"")
            .text("\"'><script>&")
            .raw("\">")
            .text("a\nb\u{202e}c\u{0}");
        assert_eq!(
            String::from_utf8(html.into_bytes()).unwrap(),
            r#"<b title="&quot;&#39;&gt;&lt;script&gt;&amp;">a\u{a}b\u{202e}c\u{0}"#
        );
    }

    #[test]
    fn text_of_all_alphabets_stays() {
        let mut html = Html::default();
        html.text("bücher.example ⚡ 例え").count(u64::MAX);
        assert_eq!(
            html.into_bytes(),
            "bücher.example ⚡ 例え18446744073709551615".as_bytes()
        );
    }
}
