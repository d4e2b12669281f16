//! `elecctl doctor`

use std::io::Write;

use electrode::probe::probe;

use crate::Failure;

pub fn run(out: &mut dyn Write, json: bool, interface: Option<&str>) -> Result<(), Failure> {
    let mut report = probe();
    if let Some(name) = interface {
        report = report.only(name)?;
    }
    if json {
        serde_json::to_writer_pretty(&mut *out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(())
}
