//! What the attribute becomes: a synchronous function around the user's own, which stays as it
//! was written, so that whatever is wrong in it is reported where it stands.
//!
//! Knows nothing of how arguments are written.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{ToTokens, quote};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Attribute, Error, FnArg, ReturnType, Signature, Visibility, braced, parse_quote, token};

use crate::args::{Args, Setting, VERSION, Value, Variant, report};

/// Expands `#[handover::main(args)] item`, or, besides the errors, to all that an editor and the
/// rest of the compiler can go on with.
pub(crate) fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    let function: Function = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            let message = format!("`#[handover::main]` belongs on an `async fn`: {error}");
            let error = Error::new(error.span(), message).into_compile_error();
            return quote!(#error #item);
        }
    };
    match (function.check(), Args::parse(args)) {
        (Ok(()), Ok(args)) => function.run_by(&args),
        (function_check, args) => {
            let errors = [function_check.err(), args.err()];
            let errors = errors.iter().flatten().map(Error::to_compile_error);
            // A method cannot be moved into a function; it is good as it is.
            let function = match function.signature.receiver() {
                Some(_) => item,
                None => function.uncalled(),
            };
            quote!(#(#errors)* #function)
        }
    }
}

/// The function that the attribute is on. Its body is opaque, so that the editor's half-written
/// one expands as well.
struct Function {
    attributes: Vec<Attribute>,
    visibility: Visibility,
    signature: Signature,
    brace: token::Brace,
    body: TokenStream,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let content;
        Ok(Self {
            attributes: input.call(Attribute::parse_outer)?,
            visibility: input.parse()?,
            signature: input.parse()?,
            brace: braced!(content in input),
            body: content.parse()?,
        })
    }
}

impl Function {
    /// Refuses what cannot be run.
    fn check(&self) -> Result<(), Error> {
        let mut errors = Vec::new();
        let mut refuse = |tokens: &dyn ToTokens, message: String| {
            errors.push(Error::new_spanned(tokens, message));
        };
        let Signature {
            constness,
            asyncness,
            safety,
            abi,
            fn_token,
            ident,
            generics,
            inputs,
            ..
        } = &self.signature;
        if asyncness.is_none() {
            let message =
                format!("`{ident}` is not `async`, `#[handover::main]` runs an `async fn`");
            refuse(fn_token, message);
        }
        let qualifiers = quote!(#constness #safety #abi);
        if !qualifiers.is_empty() {
            refuse(&qualifiers, format!("`{ident}` cannot be `{qualifiers}`"));
        }
        if !generics.params.is_empty() || generics.where_clause.is_some() {
            let message = format!("`{ident}` cannot be generic: nothing chooses its types");
            refuse(&ident, message);
        }
        if let Some(FnArg::Receiver(receiver)) = inputs.first() {
            refuse(receiver, format!("`{ident}` cannot have a `self`"));
        } else if inputs.len() > 1 {
            let found = inputs.len();
            let message =
                format!("`{ident}` takes no parameter or one, the `Context`, found {found}");
            refuse(inputs, message);
        }
        report(errors)
    }

    fn run_by(mut self, args: &Args) -> TokenStream {
        let handover = match &args.crate_path {
            Some(path) => path.to_token_stream(),
            None => quote!(::handover),
        };
        let settings = args.settings.iter().map(|Setting { method, value }| {
            let value = argument(value, &handover);
            quote!(.#method(#value))
        });
        let is_version = |setting: &Setting| setting.method == VERSION;
        let version = (!args.settings.iter().any(is_version)).then(|| {
            // A package that is not built by Cargo may have none.
            quote!(.version(::core::option_env!("CARGO_PKG_VERSION")))
        });
        // Where the output is no exit code, the error points at its type.
        let ident = &self.signature.ident;
        let output = match &self.signature.output {
            ReturnType::Type(_, output) => output.span(),
            ReturnType::Default => ident.span(),
        };
        let run = Ident::new("run", Span::call_site().located_at(output));
        let mut main = ident.clone();
        main.set_span(Span::call_site());
        let run = quote!(#handover::Builder::new() #version #(#settings)* .#run(#main));
        // Named as a value and never called, an `async fn` without an `.await` is not linted.
        if self.signature.inputs.is_empty() {
            self.signature
                .inputs
                .push(parse_quote!(_: #handover::Context));
        }
        self.around(&TokenStream::new(), &run)
    }

    fn uncalled(mut self) -> TokenStream {
        // Every `.await` in the body would be an error of its own.
        self.signature.asyncness.get_or_insert_default();
        let attribute = quote!(#[allow(dead_code, reason = "its attribute is in error")]);
        self.around(&attribute, &quote!(::std::process::ExitCode::SUCCESS))
    }

    /// The synchronous function of the same name, with the user's own inside.
    fn around(&self, inner_attribute: &TokenStream, result: &TokenStream) -> TokenStream {
        let Self {
            attributes,
            visibility,
            signature,
            brace,
            body,
        } = self;
        let Signature {
            fn_token, ident, ..
        } = signature;
        let mut block = TokenStream::new();
        brace.surround(&mut block, |block| block.extend(body.clone()));
        quote! {
            #(#attributes)*
            #visibility #fn_token #ident() -> ::std::process::ExitCode {
                #inner_attribute
                #signature #block
                #result
            }
        }
    }
}

/// What a method of the builder is called with.
fn argument(value: &Value, handover: &TokenStream) -> TokenStream {
    match value {
        Value::Variant(variant) => variant_path(variant, handover),
        Value::Signals(signals) => {
            let signals = signals.iter().map(|signal| variant_path(signal, handover));
            quote!([#(#signals),*])
        }
        Value::Integer(integer) => Literal::u64_unsuffixed(*integer).into_token_stream(),
        Value::Bool(bool) => quote!(#bool),
        Value::Text(text) => quote!(#text),
        Value::Path(path) => quote!(#path),
        Value::Nothing => TokenStream::new(),
        Value::Milliseconds(milliseconds) => {
            let milliseconds = Literal::u64_unsuffixed(*milliseconds);
            quote!(::core::time::Duration::from_millis(#milliseconds))
        }
    }
}

fn variant_path(variant: &Variant, handover: &TokenStream) -> TokenStream {
    let span = Span::call_site().located_at(variant.span);
    let enum_name = Ident::new(variant.enum_name, span);
    let variant = Ident::new(variant.variant, span);
    quote!(#handover::#enum_name::#variant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_goes_into_a_builder() {
        let expanded = main(
            quote!(
                flavor = "local",
                drain_timeout = "1m30s",
                stop_signals("SIGINT"),
                max_draining = 2
            ),
            quote! {
                /// Serves.
                pub(crate) async fn main(cx: Context) -> Result<(), Error> { serve(cx).await }
            },
        );
        let expected = quote! {
            /// Serves.
            pub(crate) fn main() -> ::std::process::ExitCode {
                async fn main(cx: Context) -> Result<(), Error> { serve(cx).await }
                ::handover::Builder::new()
                    .version(::core::option_env!("CARGO_PKG_VERSION"))
                    .flavor(::handover::Flavor::Local)
                    .drain_timeout(::core::time::Duration::from_millis(90000))
                    .stop_signals([::handover::Signal::Interrupt])
                    .max_draining(2)
                    .run(main)
            }
        };
        assert_eq!(expanded.to_string(), expected.to_string());
    }

    #[test]
    fn the_crate_can_be_elsewhere_and_the_context_be_left_out() {
        let expanded = main(
            quote!(crate = "crate::reexport", version = "2"),
            quote!(
                async fn main() {}
            ),
        );
        let expected = quote! {
            fn main() -> ::std::process::ExitCode {
                async fn main(_: crate::reexport::Context) {}
                crate::reexport::Builder::new().version("2").run(main)
            }
        };
        assert_eq!(expanded.to_string(), expected.to_string());
    }

    #[test]
    fn an_error_leaves_the_function_to_be_checked() {
        // The body is one that an editor sends while it is being written.
        let expanded = main(quote!(name = 1), quote!(fn main(cx: Context) { cx. }));
        let expected = quote! {
            ::core::compile_error! { "`main` is not `async`, `#[handover::main]` runs an `async fn`" }
            ::core::compile_error! { "`name` expects a string that is not empty, found `1`" }
            fn main() -> ::std::process::ExitCode {
                #[allow(dead_code, reason = "its attribute is in error")]
                async fn main(cx: Context) { cx. }
                ::std::process::ExitCode::SUCCESS
            }
        };
        assert_eq!(expanded.to_string(), expected.to_string());
    }

    #[test]
    fn what_cannot_be_run_stays_as_it_is() {
        for item in [
            quote!(
                struct Service;
            ),
            quote!(
                async fn run(&self) {}
            ),
        ] {
            let expanded = main(TokenStream::new(), item.clone()).to_string();
            assert!(
                expanded.starts_with(":: core :: compile_error !"),
                "{expanded}"
            );
            assert!(expanded.ends_with(&item.to_string()), "{expanded}");
        }
    }
}
