//! Columns, as the reports of skopeo and podman align them: cells end with a tab, and a column is as wide as
//! the widest of its cells in lines that follow each other, two spaces more, and twelve at least.

const LEAST: usize = 12;
const PADDING: usize = 2;

pub(super) fn align(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    // What stands after a line's last tab is not in a column.
    let has = |line: usize, column: usize| lines.get(line).is_some_and(|cells| column + 1 < cells.len());
    let mut out = String::new();
    for (line, cells) in lines.iter().enumerate() {
        for (column, cell) in cells.iter().enumerate() {
            out.push_str(cell);
            if has(line, column) {
                let first = (0..=line).rev().take_while(|line| has(*line, column)).last().unwrap_or(line);
                let block = lines[first..].iter().take_while(|cells| column + 1 < cells.len());
                let widest = block.map(|cells| cells[column].chars().count() + PADDING).max().unwrap_or_default();
                out.push_str(&" ".repeat(widest.max(LEAST) - cell.chars().count()));
            }
        }
        if line + 1 < lines.len() {
            out.push('\n');
        }
    }
    out
}
