//! The macros of `thalweg-api`: `#[derive(Record)]` and `#[main]`. Their documentation is there, where users meet them.

use proc_macro::TokenStream;

mod entry;
mod record;

/// See `thalweg_api::Record`.
#[proc_macro_derive(Record)]
pub fn derive_record(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    record::derive(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// See `thalweg_api::main`.
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function = syn::parse_macro_input!(item as syn::ItemFn);
    entry::main(&arguments.into(), &function)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
