//! `#[thalweg_api::main]`: the allocator that counts, and the frame around the user's `main`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, ItemFn, ReturnType, Type};

/// The program's entry point around the user's function.
pub(crate) fn main(arguments: &TokenStream, function: &ItemFn) -> Result<TokenStream, Error> {
    if !arguments.is_empty() {
        return Err(Error::new_spanned(
            arguments,
            "#[thalweg_api::main] takes no arguments",
        ));
    }
    let signature = &function.sig;
    if signature.ident != "main" || !signature.inputs.is_empty() || !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(
            signature,
            "#[thalweg_api::main] goes on `fn main()` without arguments and generics; \
             a program's arguments come from StreamExecutionEnvironment::args()",
        ));
    }
    if let Some(keyword) = &signature.asyncness {
        return Err(Error::new_spanned(
            keyword,
            "a job's main builds a graph and is not async: remove `async`, or build a runtime inside",
        ));
    }
    let ItemFn {
        attrs, sig, block, ..
    } = &function;
    // A main that never returns is one whose last line is execute(); `!` itself is no type that a trait can be
    // implemented for, and a block of type `!` fits any return type.
    let output = match &sig.output {
        ReturnType::Type(_, ty) if matches!(**ty, Type::Never(_)) => quote!(),
        output => quote!(#output),
    };
    Ok(quote! {
        #[global_allocator]
        static THALWEG_ALLOCATOR: ::thalweg_api::alloc::CountingAllocator =
            ::thalweg_api::alloc::CountingAllocator::new();

        #(#attrs)*
        fn main() -> ::std::process::ExitCode {
            fn user_main() #output #block
            ::thalweg_api::entry::run_main(user_main)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(arguments: &str, function: &str) -> Result<String, String> {
        let arguments = arguments.parse().unwrap();
        main(&arguments, &syn::parse_str(function).unwrap())
            .map(|tokens| tokens.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_users_main_stands_within_ours_and_the_allocator_beside_it() {
        let tokens = expanded("", "fn main() -> Result<(), String> { Ok(()) }").unwrap();
        assert!(tokens.contains("# [global_allocator]"), "{tokens}");
        assert!(
            tokens.contains("fn user_main () -> Result < () , String >"),
            "{tokens}"
        );
    }

    #[test]
    fn a_main_that_never_returns_is_one_that_returns_nothing() {
        let tokens = expanded("", "fn main() -> ! { loop {} }").unwrap();
        assert!(tokens.contains("fn user_main () { loop"), "{tokens}");
    }

    #[test]
    fn what_is_no_main_of_a_job_says_why() {
        for (arguments, function, expected) in [
            ("flavor = \"fast\"", "fn main() {}", "takes no arguments"),
            ("", "async fn main() {}", "is not async"),
            ("", "fn start() {}", "goes on `fn main()`"),
            ("", "fn main(a: i32) {}", "StreamExecutionEnvironment::args()"),
        ] {
            let error = expanded(arguments, function).unwrap_err();
            assert!(error.contains(expected), "{function}: {error}");
        }
    }
}
