//! `#[derive(Record)]`: the borrowed twin of a struct and its columns.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Error, Fields, Ident, Type, Visibility};

/// One field of the struct.
struct Column<'a> {
    visibility: &'a Visibility,
    ident: &'a Ident,
    ty: &'a Type,
    /// The column's name: the field's, without `r#`.
    name: String,
    index: Literal,
}

/// Implementations of `Value`, `Required` and `Record`, and the struct of references.
pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream, Error> {
    let columns = columns(input)?;
    let view = format_ident!("{}Ref", input.ident);
    let view_struct = view_struct(input, &view, &columns);
    let value = value_impl(&input.ident, &view, &columns);
    let record = record_impl(&input.ident, &view, &columns);
    Ok(quote! { #view_struct #value #record })
}

/// The fields, or why the type can't be a record.
fn columns(input: &DeriveInput) -> Result<Vec<Column<'_>>, Error> {
    let data = match &input.data {
        Data::Struct(data) => data,
        Data::Enum(data) => {
            return Err(Error::new_spanned(
                data.enum_token,
                "Record can't be derived for an enum: a row has the same columns for every value; \
                 use a struct with Option fields",
            ));
        }
        Data::Union(data) => {
            return Err(Error::new_spanned(
                data.union_token,
                "Record can't be derived for a union",
            ));
        }
    };
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &input.generics,
            "Record can't be derived for a struct with type parameters or lifetimes: \
             a record owns its values and has columns of fixed types (use String in place of &str)",
        ));
    }
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new_spanned(
            &input.ident,
            "Record is derived for structs with named fields: the names are those of the columns; \
             a tuple is a record without derive",
        ));
    };
    if fields.named.is_empty() {
        return Err(Error::new_spanned(
            &input.ident,
            "a record has at least one field",
        ));
    }
    fields.named.iter().enumerate().map(column).collect()
}

fn column((index, field): (usize, &syn::Field)) -> Result<Column<'_>, Error> {
    if let Type::Reference(reference) = &field.ty {
        return Err(Error::new_spanned(
            reference,
            "a record owns its values: use String for &str, Vec<u8> for &[u8]",
        ));
    }
    let ident = field
        .ident
        .as_ref()
        .ok_or_else(|| Error::new_spanned(field, "a field has a name"))?;
    let text = ident.to_string();
    Ok(Column {
        visibility: &field.vis,
        ident,
        ty: &field.ty,
        name: text.strip_prefix("r#").unwrap_or(&text).to_owned(),
        index: Literal::usize_unsuffixed(index),
    })
}

/// `FooRef<'a>`: what user functions see of a `Foo` in a column.
fn view_struct(input: &DeriveInput, view: &Ident, columns: &[Column<'_>]) -> TokenStream {
    let owner = &input.ident;
    let visibility = &input.vis;
    let doc = format!("A [`{owner}`] borrowed from columns.");
    let fields = columns.iter().map(
        |Column {
             visibility,
             ident,
             ty,
             name,
             ..
         }| {
            let doc = format!("See `{owner}::{name}`.");
            quote! {
                #[doc = #doc]
                #visibility #ident: <#ty as ::thalweg_api::record::Value>::Ref<'a>
            }
        },
    );
    let idents: Vec<_> = columns.iter().map(|column| column.ident).collect();
    let types = columns.iter().map(|column| column.ty);
    quote! {
        #[doc = #doc]
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[allow(dead_code)]
        #visibility struct #view<'a> { #(#fields,)* }

        impl ::core::convert::From<#view<'_>> for #owner {
            fn from(value: #view<'_>) -> Self {
                Self { #(#idents: <#types as ::thalweg_api::record::Value>::own(value.#idents),)* }
            }
        }
    }
}

fn value_impl(owner: &Ident, view: &Ident, columns: &[Column<'_>]) -> TokenStream {
    let idents: Vec<_> = columns.iter().map(|column| column.ident).collect();
    let types: Vec<_> = columns.iter().map(|column| column.ty).collect();
    quote! {
        impl ::thalweg_api::record::Value for #owner {
            type Ref<'a> = #view<'a>;
            type Column = ::thalweg_api::record::StructColumn<<Self as ::thalweg_api::record::Record>::Columns>;
            type Builder = ::thalweg_api::record::StructBuilder<<Self as ::thalweg_api::record::Record>::Builders>;

            fn data_type() -> ::thalweg_api::arrow::datatypes::DataType {
                ::thalweg_api::arrow::datatypes::DataType::Struct(
                    <Self as ::thalweg_api::record::Record>::fields().into(),
                )
            }

            fn column(
                array: &::thalweg_api::arrow::array::ArrayRef,
                name: &str,
            ) -> ::core::result::Result<Self::Column, ::thalweg_api::record::RecordError> {
                ::thalweg_api::record::StructColumn::open::<Self>(array, name)
            }

            #[inline]
            fn get(column: &Self::Column, row: usize) -> #view<'_> {
                <Self as ::thalweg_api::record::Record>::row(column.columns(), row)
            }

            #[inline]
            fn is_null(column: &Self::Column, row: usize) -> bool {
                column.is_null(row)
            }

            fn builder(capacity: usize) -> Self::Builder {
                ::thalweg_api::record::StructBuilder::new::<Self>(capacity)
            }

            #[inline]
            fn append(builder: &mut Self::Builder, value: #view<'_>) {
                builder.append::<Self>(value);
            }

            fn append_null(builder: &mut Self::Builder) {
                builder.append_null::<Self>();
            }

            #[inline]
            fn builder_bytes(builder: &Self::Builder) -> usize {
                builder.bytes::<Self>()
            }

            fn finish(builder: &mut Self::Builder) -> ::thalweg_api::arrow::array::ArrayRef {
                builder.finish::<Self>()
            }

            #[inline]
            fn view(value: &Self) -> #view<'_> {
                #view { #(#idents: <#types as ::thalweg_api::record::Value>::view(&value.#idents),)* }
            }

            #[inline]
            fn own(value: #view<'_>) -> Self {
                ::core::convert::From::from(value)
            }

            #[inline]
            fn heap_bytes(value: #view<'_>) -> usize {
                0 #(+ <#types as ::thalweg_api::record::Value>::heap_bytes(value.#idents))*
            }
        }

        impl ::thalweg_api::record::Required for #owner {}
    }
}

fn record_impl(owner: &Ident, view: &Ident, columns: &[Column<'_>]) -> TokenStream {
    let count = Literal::usize_unsuffixed(columns.len());
    let idents: Vec<_> = columns.iter().map(|column| column.ident).collect();
    let types: Vec<_> = columns.iter().map(|column| column.ty).collect();
    let names: Vec<_> = columns.iter().map(|column| &column.name).collect();
    let indices: Vec<_> = columns.iter().map(|column| &column.index).collect();
    quote! {
        impl ::thalweg_api::record::Record for #owner {
            type Columns = (#(<#types as ::thalweg_api::record::Value>::Column,)*);
            type Builders = (#(<#types as ::thalweg_api::record::Value>::Builder,)*);
            const NAMED: bool = true;

            fn fields() -> ::std::vec::Vec<::thalweg_api::arrow::datatypes::Field> {
                ::std::vec![#(::thalweg_api::record::field_of::<#types>(#names)),*]
            }

            fn columns(
                arrays: &[::thalweg_api::arrow::array::ArrayRef],
                within: ::core::option::Option<&::thalweg_api::arrow::buffer::NullBuffer>,
            ) -> ::core::result::Result<Self::Columns, ::thalweg_api::record::RecordError> {
                ::thalweg_api::record::check_column_count(arrays, #count)?;
                ::core::result::Result::Ok((
                    #(::thalweg_api::record::open_column::<#types>(arrays, #indices, #names, within)?,)*
                ))
            }

            #[inline]
            fn row(columns: &Self::Columns, row: usize) -> #view<'_> {
                #view { #(#idents: <#types as ::thalweg_api::record::Value>::get(&columns.#indices, row),)* }
            }

            fn builders(capacity: usize) -> Self::Builders {
                (#(<#types as ::thalweg_api::record::Value>::builder(capacity),)*)
            }

            #[inline]
            fn push(builders: &mut Self::Builders, value: #view<'_>) {
                #(<#types as ::thalweg_api::record::Value>::append(&mut builders.#indices, value.#idents);)*
            }

            fn push_null(builders: &mut Self::Builders) {
                #(<#types as ::thalweg_api::record::Value>::append_null(&mut builders.#indices);)*
            }

            #[inline]
            fn builders_bytes(builders: &Self::Builders) -> usize {
                0 #(+ <#types as ::thalweg_api::record::Value>::builder_bytes(&builders.#indices))*
            }

            fn finish_columns(
                builders: &mut Self::Builders,
            ) -> ::std::vec::Vec<::thalweg_api::arrow::array::ArrayRef> {
                ::std::vec![#(<#types as ::thalweg_api::record::Value>::finish(&mut builders.#indices)),*]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derived(text: &str) -> Result<String, String> {
        let input = syn::parse_str(text).unwrap();
        derive(&input)
            .map(|tokens| tokens.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_can_not_be_a_record_says_what_to_do() {
        for (text, expected) in [
            ("enum Shape { Dot }", "use a struct with Option fields"),
            ("union Bits { a: u8 }", "can't be derived for a union"),
            ("struct Pair<T> { left: T }", "has columns of fixed types"),
            ("struct Line<'a> { text: &'a str }", "use String in place of &str"),
            ("struct Line { text: &'static str }", "use String for &str"),
            ("struct Pair(String, i64);", "a tuple is a record without derive"),
            ("struct Nothing;", "structs with named fields"),
            ("struct Nothing {}", "at least one field"),
        ] {
            let error = derived(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn the_borrowed_twin_has_the_fields_and_their_visibility() {
        let tokens = derived("pub struct Word { pub word: String, count: i64 }").unwrap();
        assert!(tokens.contains("pub struct WordRef < 'a >"), "{tokens}");
        assert!(tokens.contains("pub word : < String as"), "{tokens}");
        assert!(!tokens.contains("pub count"), "{tokens}");
    }

    #[test]
    fn a_raw_name_is_a_column_without_its_mark() {
        let tokens = derived("struct Word { r#type: i64 }").unwrap();
        assert!(tokens.contains("field_of :: < i64 > (\"type\")"), "{tokens}");
    }
}
