//! Text in columns, for people.

/// A column: its head, and whether its cells end at the right, as numbers do.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// What stands above it.
    pub head: &'static str,
    /// Cells end at the right.
    pub right: bool,
}

/// A column of text.
pub const fn text(head: &'static str) -> Column {
    Column { head, right: false }
}

/// A column of numbers.
pub const fn number(head: &'static str) -> Column {
    Column { head, right: true }
}

/// Columns as wide as their widest cell, two spaces between them. Control characters in cells are written as escapes:
/// names come from anybody, and a terminal could take them for commands.
pub fn table(columns: &[Column], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect()).collect();
    let width = |(at, column): (usize, &Column)| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        cells.chain([column.head.chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = columns.iter().enumerate().map(width).collect();
    let head: Vec<String> = columns.iter().map(|column| column.head.to_string()).collect();
    let mut out = String::new();
    for row in std::iter::once(&head).chain(&rows) {
        let mut line = String::new();
        for ((cell, width), column) in row.iter().zip(&widths).zip(columns) {
            let space = " ".repeat(width.saturating_sub(cell.chars().count()));
            let (before, behind) = if column.right { (space.as_str(), "") } else { ("", space.as_str()) };
            line.extend([before, cell, behind, "  "]);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A name that somebody chose, without what a terminal could take for a command.
pub fn shown(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for char in name.chars() {
        match char.is_control() {
            true => out.extend(char.escape_default()),
            false => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn columns_are_aligned_and_names_are_harmless() {
        let row = |name: &str, count: &str| vec![name.to_string(), count.to_string(), "end".to_string()];
        let columns = [text("NAME"), number("COUNT"), text("")];
        expect![[r#"
            NAME       COUNT
            größe          7  end
            \u{1b}[2J   1234  end
        "#]]
        .assert_eq(&table(&columns, &[row("größe", "7"), row("\u{1b}[2J", "1234")]));
    }
}
