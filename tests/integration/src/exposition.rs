//! A page of metrics in Prometheus' text format, taken apart.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

/// What one page holds, or several of one program together.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    /// Every metric by its name.
    pub metrics: BTreeMap<String, Metric>,
}

/// One metric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metric {
    /// What `# HELP` says.
    pub help: String,
    /// `gauge` or `counter`.
    pub kind: String,
    /// Every label and the values it was seen with.
    pub labels: BTreeMap<String, BTreeSet<String>>,
    /// Whether a series of it was NaN.
    pub nan: bool,
}

impl Exposition {
    /// Adds a page.
    pub fn add(&mut self, page: &str) -> Result<()> {
        for line in page.lines().filter(|line| !line.is_empty()) {
            self.line(line).with_context(|| format!("a line of a metrics page: {line}"))?;
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let described = line.strip_prefix("# HELP ").map(|rest| (rest, true));
        let described = described.or_else(|| line.strip_prefix("# TYPE ").map(|rest| (rest, false)));
        if let Some((rest, help)) = described {
            let (name, text) = rest.split_once(' ').context("no text")?;
            let metric = self.metrics.entry(name.to_owned()).or_default();
            *(if help { &mut metric.help } else { &mut metric.kind }) = text.to_owned();
            return Ok(());
        }
        let (series, value) = line.rsplit_once(' ').context("no value")?;
        let value: f64 = value.parse().context("the value is no number")?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').context("the labels have no end")?),
            None => (series, ""),
        };
        let metric = self.metrics.entry(name.to_owned()).or_default();
        metric.nan |= value.is_nan();
        // None of our labels has a comma or a quote in its value.
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once('=').context("a label without a value")?;
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).context("no quotes")?;
            ensure!(!value.contains('"'), "a label's value holds a quote or a comma");
            metric.labels.entry(label.to_owned()).or_default().insert(value.to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_taken_apart() {
        let mut page = Exposition::default();
        page.add(
            "# HELP a What it is\n# TYPE a gauge\na{x=\"1\",y=\"z\"} 2\na{x=\"2\"} NaN\n\n# TYPE b counter\nb 1.5e3\n",
        )
        .unwrap();
        let a = &page.metrics["a"];
        assert_eq!((a.help.as_str(), a.kind.as_str(), a.nan), ("What it is", "gauge", true));
        assert_eq!(a.labels["x"].len(), 2);
        assert!(a.labels["y"].contains("z"));
        assert_eq!((page.metrics["b"].kind.as_str(), page.metrics["b"].nan), ("counter", false));
        for broken in ["a", "a{x=\"1\" 2", "a{x=1} 2", "a{x} 2", "a b"] {
            assert!(page.add(broken).is_err(), "{broken}");
        }
    }
}
