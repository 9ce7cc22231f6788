use super::*;

#[test]
fn the_table_is_sorted_and_has_each_name_once() {
    assert!(TABLE.is_sorted_by(|left, right| left.name < right.name));
}

#[test]
fn typing_mistakes_get_a_suggestion() {
    assert_eq!(suggest("conect-timeout"), Some("connect-timeout"));
    assert_eq!(suggest("redirect-http"), Some("redirect-https"));
    assert_eq!(suggest("repsonse-timeout"), Some("response-timeout"));
    assert_eq!(suggest("colour"), None);
}

#[test]
fn values_are_read_by_their_form() {
    assert_eq!(
        Form::Duration.read(" 10s "),
        Ok(Value::Duration(Duration::from_secs(10)))
    );
    assert_eq!(Form::DurationOrOff.read("off"), Ok(Value::Off));
    assert!(Form::Duration.read("off").is_err());
    assert_eq!(Form::Redirect.read("true"), Ok(Value::Redirect(Redirect::Always)));
    assert!(Form::Redirect.read("yes").is_err());
    assert!(Form::SecretName.read("other/ca").is_ok());
    assert!(Form::SecretName.read("an/other/ca").is_err());
    assert!(Form::HostName.read("10.0.0.1").is_err());
}
