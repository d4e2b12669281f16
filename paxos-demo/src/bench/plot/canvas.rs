//! Curves and bars on axes, with whiskers.

use plotters::coord::ranged1d::{AsRangedCoord, DefaultFormatting, KeyPointHint, Ranged, ValueFormatter};
use plotters::prelude::*;

const SIZE: (u32, u32) = (760, 460);
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x4c, 0x78, 0xa8),
    RGBColor(0xf5, 0x85, 0x18),
    RGBColor(0x54, 0xa2, 0x4b),
    RGBColor(0xb2, 0x79, 0xa2),
    RGBColor(0x9d, 0x75, 0x5d),
    RGBColor(0xe4, 0x57, 0x56),
];
const FONT: &str = "sans-serif";

/// Where there is room for the names of the curves.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Corner {
    UpperLeft,
    UpperRight,
    LowerRight,
}

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
    pub name: String,
    pub point: Point,
}

#[derive(Clone, Debug, PartialEq)]
enum Content {
    Curves { x_label: String, scale: Scale, legend: Corner, curves: Vec<Curve> },
    Bars(Vec<Bar>),
}

/// A picture before it is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    title: String,
    y_label: String,
    content: Content,
}

type Drawn<T> = Result<T, String>;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Picture {
    /// `labels`: of the level axis and of the upright one.
    pub fn curves(
        title: String,
        labels: [&str; 2],
        scale: Scale,
        legend: Corner,
        curves: Vec<Curve>,
    ) -> Self {
        let [x_label, y_label] = labels.map(str::to_owned);
        Self { title, y_label, content: Content::Curves { x_label, scale, legend, curves } }
    }

    pub fn bars(title: String, y_label: &str, bars: Vec<Bar>) -> Self {
        Self { title, y_label: y_label.to_owned(), content: Content::Bars(bars) }
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
            area.draw(&Text::new(place.to_owned(), (12, height - 18), style(10))).map_err(text)?;
            let inner = area.margin(34, 26, 8, 24);
            match &self.content {
                Content::Curves { x_label, scale, legend, curves } => {
                    let names = (x_label.as_str(), *legend);
                    let points = || curves.iter().flat_map(|curve| &curve.points);
                    let right = points().map(|p| p.x).fold(0.0, f64::max) * 1.05;
                    let top = points().map(|p| p.quartiles[1]).fold(0.0, f64::max) * 1.1;
                    let bottom = points().map(|p| p.quartiles[0]).fold(f64::MAX, f64::min);
                    match scale {
                        Scale::Linear => self.draw_curves(&inner, names, curves, 0.0..right, 0.0..top),
                        Scale::Logarithmic => {
                            let range = (bottom * 0.8).max(f64::MIN_POSITIVE)..top * 1.2;
                            self.draw_curves(&inner, names, curves, 0.0..right, range.log_scale())
                        }
                    }?;
                }
                Content::Bars(bars) => self.draw_bars(&inner, bars)?,
            }
            area.present().map_err(text)?;
        }
        Ok(svg)
    }

    fn draw_curves<Y>(
        &self,
        area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
        (x_label, legend): (&str, Corner),
        curves: &[Curve],
        x: std::ops::Range<f64>,
        y: Y,
    ) -> Drawn<()>
    where
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let mut chart = ChartBuilder::on(area)
            .x_label_area_size(38)
            .y_label_area_size(64)
            .build_cartesian_2d(x, y)
            .map_err(text)?;
        chart
            .configure_mesh()
            .x_desc(x_label)
            .y_desc(&self.y_label)
            .x_label_formatter(&|value| short(*value))
            .y_label_formatter(&|value| short(*value))
            .light_line_style(WHITE)
            .label_style((FONT, 12))
            .axis_desc_style((FONT, 13))
            .draw()
            .map_err(text)?;
        for curve in curves {
            let colour = COLOURS[curve.colour % COLOURS.len()];
            let style = ShapeStyle::from(&colour.mix(if curve.thin { 0.55 } else { 1.0 }))
                .stroke_width(if curve.thin { 1 } else { 2 });
            let line = curve.points.iter().map(|p| (p.x, p.y));
            chart
                .draw_series(LineSeries::new(line, style))
                .map_err(text)?
                .label(&curve.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
            let whiskers = curve
                .points
                .iter()
                .map(|p| ErrorBar::new_vertical(p.x, p.quartiles[0], p.y, p.quartiles[1], style.filled(), 6));
            chart.draw_series(whiskers).map_err(text)?;
        }
        chart
            .configure_series_labels()
            .position(match legend {
                Corner::UpperLeft => SeriesLabelPosition::UpperLeft,
                Corner::UpperRight => SeriesLabelPosition::UpperRight,
                Corner::LowerRight => SeriesLabelPosition::LowerRight,
            })
            .background_style(WHITE.mix(0.85))
            .label_font((FONT, 12))
            .draw()
            .map_err(text)
    }

    fn draw_bars(
        &self,
        area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
        bars: &[Bar],
    ) -> Drawn<()> {
        let top = bars.iter().map(|bar| bar.point.quartiles[1]).fold(0.0, f64::max) * 1.15;
        let mut chart = ChartBuilder::on(area)
            .x_label_area_size(38)
            .y_label_area_size(64)
            .build_cartesian_2d(Places(bars.len()), 0.0..top)
            .map_err(text)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .y_desc(&self.y_label)
            .x_labels(bars.len())
            .x_label_formatter(&|place: &f64| {
                bars.get(*place as usize).map_or(String::new(), |bar| bar.name.clone())
            })
            .y_label_formatter(&|value| short(*value))
            .light_line_style(WHITE)
            .label_style((FONT, 12))
            .axis_desc_style((FONT, 13))
            .draw()
            .map_err(text)?;
        for (place, bar) in bars.iter().enumerate() {
            let (x, colour) = (place as f64, COLOURS[place % COLOURS.len()]);
            let box_ = Rectangle::new([(x - 0.35, 0.0), (x + 0.35, bar.point.y)], colour.mix(0.8).filled());
            chart.draw_series([box_]).map_err(text)?;
            let [low, high] = bar.point.quartiles;
            let whisker = ErrorBar::new_vertical(x, low, bar.point.y, high, BLACK.filled(), 10);
            chart.draw_series([whisker]).map_err(text)?;
            let label = Text::new(short(bar.point.y), (x + 0.05, high + top * 0.05), (FONT, 12));
            chart.draw_series([label]).map_err(text)?;
        }
        Ok(())
    }
}

/// Places of bars, side by side.
struct Places(usize);

impl Ranged for Places {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value + 0.5) / self.0.max(1) as f64;
        limit.0 + (f64::from(limit.1 - limit.0) * share) as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        (0..self.0).map(|place| place as f64).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        -0.5..self.0 as f64 - 0.5
    }
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
