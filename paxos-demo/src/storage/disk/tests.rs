//! One file a question; the storage under test works on [`SimFiles`] and is stepped by hand, unless threads or
//! real files are the question.

mod crash;
mod model;
