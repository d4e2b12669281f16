//! Curves and bars on axes, with whiskers.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const SIZE: (u32, u32) = (760, 460);
const COLOURS: [RGBColor; 8] = [
    RGBColor(0x4c, 0x78, 0xa8),
    RGBColor(0xf5, 0x85, 0x18),
    RGBColor(0x54, 0xa2, 0x4b),
    RGBColor(0xb2, 0x79, 0xa2),
    RGBColor(0x9d, 0x75, 0x5d),
    RGBColor(0xe4, 0x57, 0x56),
    RGBColor(0x72, 0xb7, 0xb2),
    RGBColor(0xee, 0xca, 0x3b),
];
const FONT: &str = "sans-serif";
/// Where the names of curves begin, from the left and from the top, and the height of a row of them.
const LEGEND: (i32, i32) = (12, 34);
const ROW: i32 = 17;
/// Room below the axis: for three lines.
const BELOW: u32 = 46;

/// How numbers lie on the upright axis; the other begins at zero.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From zero.
    Linear,
    /// By factors.
    Logarithmic,
}

/// A median with its quartiles.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    pub quartiles: [f64; 2],
}

/// Points of one backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    pub name: String,
    /// Number of its colour.
    pub colour: usize,
    /// Drawn thinner than the others: the slow ones of a backend's requests.
    pub thin: bool,
    pub points: Vec<Point>,
}

/// One of several things that are compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// What is written under it, in one line or several.
    pub name: String,
    /// Number of its colour.
    pub colour: usize,
    pub point: Point,
}

#[derive(Clone, Debug, PartialEq)]
enum Content {
    Curves { x_label: String, scale: Scale, curves: Vec<Curve> },
    Bars(Vec<Bar>),
}

/// A picture before it is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    title: String,
    y_label: String,
    /// Stands behind the place.
    note: &'static str,
    content: Content,
}

type Drawn<T> = Result<T, String>;
type Area<'s> = DrawingArea<SVGBackend<'s>, Shift>;
type Chart<'a, 's, Y> = ChartContext<'a, SVGBackend<'s>, Cartesian2d<RangedCoordf64, Y>>;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Picture {
    /// `labels`: of the level axis and of the upright one.
    pub fn curves(title: String, labels: [&str; 2], scale: Scale, curves: Vec<Curve>) -> Self {
        let [x_label, y_label] = labels.map(str::to_owned);
        Self { title, y_label, note: "", content: Content::Curves { x_label, scale, curves } }
    }

    pub fn bars(title: String, y_label: &str, bars: Vec<Bar>) -> Self {
        Self { title, y_label: y_label.to_owned(), note: "", content: Content::Bars(bars) }
    }

    /// With this at the foot, too.
    pub fn with_note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }

    #[cfg(test)]
    pub fn curve(&self, name: &str) -> Option<&Curve> {
        match &self.content {
            Content::Curves { curves, .. } => curves.iter().find(|curve| curve.name == name),
            Content::Bars(_) => None,
        }
    }

    /// Its bars; none if it has curves.
    pub fn bars_drawn(&self) -> &[Bar] {
        match &self.content {
            Content::Bars(bars) => bars,
            Content::Curves { .. } => &[],
        }
    }

    /// The file's text. `place` says where it was measured.
    pub fn svg(&self, place: &str) -> Drawn<String> {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            area.fill(&WHITE).map_err(text)?;
            let style = |size: u32| (FONT, size).into_font().color(&BLACK.mix(0.8));
            let height = SIZE.1 as i32;
            area.draw(&Text::new(self.title.clone(), (12, 10), style(14))).map_err(text)?;
            let foot = [place, self.note].into_iter().filter(|part| !part.is_empty());
            let foot = foot.collect::<Vec<_>>().join("; ");
            area.draw(&Text::new(foot, (12, height - 18), style(10))).map_err(text)?;
            match &self.content {
                Content::Curves { x_label, scale, curves } => {
                    let top = draw_legend(&area, curves)?;
                    let inner = area.margin(top, 26, 8, 24);
                    let points = || curves.iter().flat_map(|curve| &curve.points);
                    let right = points().map(|p| p.x).fold(0.0, f64::max) * 1.05;
                    let top = points().map(|p| p.quartiles[1]).fold(0.0, f64::max) * 1.1;
                    let bottom = points().map(|p| p.quartiles[0]).fold(f64::MAX, f64::min);
                    match scale {
                        Scale::Linear => {
                            draw_curves(self.axes(&inner, 0.0..right, 0.0..top, Some(x_label))?, curves)
                        }
                        Scale::Logarithmic => {
                            let range = (bottom * 0.8).max(f64::MIN_POSITIVE)..top * 1.2;
                            let range = range.log_scale();
                            draw_curves(self.axes(&inner, 0.0..right, range, Some(x_label))?, curves)
                        }
                    }?;
                }
                Content::Bars(bars) => self.draw_bars(&area, bars)?,
            }
            area.present().map_err(text)?;
        }
        Ok(svg)
    }

    /// Both axes with their numbers; without `x_label` there are none on the level one.
    fn axes<'a, 's, Y>(
        &self,
        area: &'a Area<'s>,
        x: Range<f64>,
        y: Y,
        x_label: Option<&str>,
    ) -> Drawn<Chart<'a, 's, Y::CoordDescType>>
    where
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let mut chart = ChartBuilder::on(area)
            .x_label_area_size(BELOW)
            .y_label_area_size(64)
            .build_cartesian_2d(x, y)
            .map_err(text)?;
        let number = |value: &f64| short(*value);
        let mut mesh = chart.configure_mesh();
        mesh.y_desc(&self.y_label)
            .x_label_formatter(&number)
            .y_label_formatter(&number)
            .light_line_style(WHITE)
            .label_style((FONT, 12))
            .axis_desc_style((FONT, 13));
        match x_label {
            Some(label) => mesh.x_desc(label),
            None => mesh.disable_x_mesh().x_labels(0),
        };
        mesh.draw().map_err(text)?;
        Ok(chart)
    }

    fn draw_bars(&self, area: &Area<'_>, bars: &[Bar]) -> Drawn<()> {
        let top = bars.iter().map(|bar| bar.point.quartiles[1]).fold(0.0, f64::max) * 1.15;
        let inner = area.margin(LEGEND.1, 26, 8, 24);
        let mut chart = self.axes(&inner, -0.5..bars.len() as f64 - 0.5, 0.0..top, None)?;
        let style = (FONT, 12).into_font().color(&BLACK.mix(0.8)).pos(Pos::new(HPos::Center, VPos::Top));
        for (place, bar) in bars.iter().enumerate() {
            let (x, colour) = (place as f64, COLOURS[bar.colour % COLOURS.len()]);
            let box_ = Rectangle::new([(x - 0.35, 0.0), (x + 0.35, bar.point.y)], colour.mix(0.8).filled());
            chart.draw_series([box_]).map_err(text)?;
            let [low, high] = bar.point.quartiles;
            let whisker = ErrorBar::new_vertical(x, low, bar.point.y, high, BLACK.filled(), 10);
            chart.draw_series([whisker]).map_err(text)?;
            let label = Text::new(short(bar.point.y), (x + 0.05, high + top * 0.05), (FONT, 12));
            chart.draw_series([label]).map_err(text)?;
            let (middle, foot) = chart.backend_coord(&(x, 0.0));
            for (row, line) in (0..).zip(bar.name.lines()) {
                let at = (middle, foot + 5 + 14 * row);
                area.draw(&Text::new(line.to_owned(), at, style.clone())).map_err(text)?;
            }
        }
        Ok(())
    }
}

/// Names above the picture, where they hide no point. Returns where the picture begins.
fn draw_legend(area: &Area<'_>, curves: &[Curve]) -> Drawn<i32> {
    let (mut x, mut y) = LEGEND;
    for curve in curves {
        let width = 34 + 7 * curve.name.len() as i32;
        if x + width > SIZE.0 as i32 {
            (x, y) = (LEGEND.0, y + ROW);
        }
        area.draw(&PathElement::new([(x, y + 6), (x + 18, y + 6)], style_of(curve))).map_err(text)?;
        area.draw(&Text::new(curve.name.clone(), (x + 23, y), (FONT, 12))).map_err(text)?;
        x += width;
    }
    Ok(y + ROW + 5)
}

fn draw_curves<Y>(mut chart: Chart<'_, '_, Y>, curves: &[Curve]) -> Drawn<()>
where
    Y: Ranged<ValueType = f64>,
{
    for curve in curves {
        let style = style_of(curve);
        let line = curve.points.iter().map(|p| (p.x, p.y));
        chart.draw_series(LineSeries::new(line, style)).map_err(text)?;
        let whiskers = curve
            .points
            .iter()
            .map(|p| ErrorBar::new_vertical(p.x, p.quartiles[0], p.y, p.quartiles[1], style.filled(), 6));
        chart.draw_series(whiskers).map_err(text)?;
    }
    Ok(())
}

fn style_of(curve: &Curve) -> ShapeStyle {
    let (opacity, width) = if curve.thin { (0.55, 1) } else { (1.0, 2) };
    ShapeStyle::from(&COLOURS[curve.colour % COLOURS.len()].mix(opacity)).stroke_width(width)
}

/// A number for an axis.
fn short(value: f64) -> String {
    match value {
        v if v >= 10_000.0 => format!("{:.0} k", v / 1000.0),
        v if v >= 1000.0 => format!("{:.1} k", v / 1000.0),
        v if v >= 10.0 || v.fract() == 0.0 => format!("{v:.0}"),
        v => format!("{v:.1}"),
    }
}
