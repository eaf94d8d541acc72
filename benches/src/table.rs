//! Figures and tables as people read them.

/// Prints rows with aligned columns: the first to the left, figures to the right.
pub fn print<const N: usize>(rows: &[[String; N]]) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    println!();
    for row in rows {
        let mut line = format!("{:<w$}", row[0], w = width(0));
        for (column, cell) in row.iter().enumerate().skip(1) {
            line.push_str(&format!("  {cell:>w$}", w = width(column)));
        }
        println!("{line}");
    }
}

/// 12345.6 as `12,346`.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as MiB.
pub fn mib(bytes: f64) -> String {
    format!("{:.1}", bytes / 1_048_576.0)
}

/// How many times the second figure the first one is.
pub fn ratio(figure: Option<f64>, base: Option<f64>) -> String {
    figure.zip(base).map_or("-".into(), |(figure, base)| format!("{:.2} x", figure / base))
}
